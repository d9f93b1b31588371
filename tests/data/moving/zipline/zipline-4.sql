--
-- PostgreSQL database dump
--

\restrict rPWkiMSCyM8pheYWdq1nLPHU1miUclt4eVwbNsyvoLTBJOqM9SaMYTejesUUVFQ

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: Role; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public."Role" AS ENUM (
    'USER',
    'ADMIN',
    'SUPERADMIN'
);


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: File; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."File" (
    id text NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp(3) without time zone NOT NULL,
    "deletesAt" timestamp(3) without time zone,
    name text NOT NULL,
    "originalName" text,
    size bigint NOT NULL,
    type text NOT NULL,
    views integer DEFAULT 0 NOT NULL,
    "maxViews" integer,
    favorite boolean DEFAULT false NOT NULL,
    password text,
    anonymous boolean DEFAULT false NOT NULL,
    "userId" text,
    "folderId" text
);


--
-- Name: Folder; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."Folder" (
    id text NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp(3) without time zone NOT NULL,
    name text NOT NULL,
    public boolean DEFAULT false NOT NULL,
    "allowUploads" boolean DEFAULT false NOT NULL,
    "parentId" text,
    "userId" text NOT NULL
);


--
-- Name: Metric; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."Metric" (
    id text NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp(3) without time zone NOT NULL,
    data jsonb NOT NULL
);


--
-- Name: Tag; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."Tag" (
    id text NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp(3) without time zone NOT NULL,
    name text NOT NULL,
    color text NOT NULL,
    "userId" text
);


--
-- Name: Thumbnail; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."Thumbnail" (
    id text NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp(3) without time zone NOT NULL,
    path text NOT NULL,
    "fileId" text NOT NULL
);


--
-- Name: User; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."User" (
    id text NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp(3) without time zone NOT NULL,
    username text NOT NULL,
    password text,
    avatar text,
    token text NOT NULL,
    role public."Role" DEFAULT 'USER'::public."Role" NOT NULL,
    view jsonb DEFAULT '{}'::jsonb NOT NULL
);


--
-- Name: Zipline; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."Zipline" (
    id text NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp(3) without time zone NOT NULL,
    "firstSetup" boolean DEFAULT true NOT NULL,
    "filesRoute" text DEFAULT '/u'::text NOT NULL,
    "filesExtensionlessUrls" boolean DEFAULT false NOT NULL,
    "websiteExternalLinks" jsonb DEFAULT '[]'::jsonb NOT NULL
);


--
-- Name: _FileToTag; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."_FileToTag" (
    "A" text NOT NULL,
    "B" text NOT NULL
);


--
-- Data for Name: File; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."File" (id, "createdAt", "updatedAt", "deletesAt", name, "originalName", size, type, views, "maxViews", favorite, password, anonymous, "userId", "folderId") FROM stdin;
cf_1	2024-05-01 12:34:56.789	2024-05-01 00:00:00	\N	a1B2c3.png	fjord åt night.png	1	image/png	7	\N	f	\N	f	cu_ann	cd_trip
cf_2	2024-05-02 08:00:00	2024-05-02 00:00:00	\N	back\\slash tab.jpg	tab\there, new\nline and \\N.jpg	1	image/jpeg	0	\N	f	\N	f	cu_bob	\N
cf_3	2024-05-03 08:00:00	2024-05-03 00:00:00	\N	secret.png	\N	1	image/png	0	\N	f	$argon2id$v=19$m=1	f	cu_ann	\N
cf_4	2024-05-04 08:00:00	2024-05-04 00:00:00	2124-05-04 08:00:00	later.gif	\N	1	image/gif	0	\N	f	\N	f	cu_ann	\N
cf_5	2024-05-05 08:00:00	2024-05-05 00:00:00	2024-05-06 08:00:00	ended.png	\N	1	image/png	0	\N	f	\N	f	cu_ann	\N
cf_6	2024-05-06 08:00:00	2024-05-06 00:00:00	\N	thrice.png	\N	1	image/png	0	3	f	\N	f	cu_ann	\N
cf_7	2024-05-07 08:00:00	2024-05-07 00:00:00	\N	clip.mp4	\N	1	video/mp4	0	\N	f	\N	f	cu_ann	\N
cf_8	2024-05-08 08:00:00	2024-05-08 00:00:00	\N	note.txt	\N	1	text/plain	0	\N	f	\N	f	cu_ann	\N
cf_9	2024-05-09 08:00:00	2024-05-09 00:00:00	\N	gone.png	\N	1	image/png	0	\N	f	\N	f	cu_ann	\N
cf_10	2024-05-10 08:00:00	2024-05-10 00:00:00	\N	../outside.png	\N	1	image/png	0	\N	f	\N	f	cu_ann	\N
\.


--
-- Data for Name: Folder; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."Folder" (id, "createdAt", "updatedAt", name, public, "allowUploads", "parentId", "userId") FROM stdin;
cd_trip	2024-02-01 00:00:00	2024-02-01 00:00:00	Trip to Oslo	t	f	\N	cu_ann
\.


--
-- Data for Name: Metric; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."Metric" (id, "createdAt", "updatedAt", data) FROM stdin;
cm_1	2024-05-01 00:00:00	2024-05-01 00:00:00	{"text": "line\\nCOPY public.\\"File\\" (id) FROM stdin;"}
\.


--
-- Data for Name: Tag; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."Tag" (id, "createdAt", "updatedAt", name, color, "userId") FROM stdin;
cg_1	2024-05-01 00:00:00	2024-05-01 00:00:00	Norway	#fff	cu_ann
cg_2	2024-05-01 00:00:00	2024-05-01 00:00:00	night	#000	cu_ann
\.


--
-- Data for Name: Thumbnail; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."Thumbnail" (id, "createdAt", "updatedAt", path, "fileId") FROM stdin;
ct_1	2024-05-07 00:00:00	2024-05-07 00:00:00	.thumbnail-cf_7.jpg	cf_7
\.


--
-- Data for Name: User; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."User" (id, "createdAt", "updatedAt", username, password, avatar, token, role, view) FROM stdin;
cu_ann	2024-01-01 00:00:00	2024-01-01 00:00:00	ann	x	\N	t1	SUPERADMIN	{"enabled": true}
cu_bob	2024-01-02 00:00:00	2024-01-02 00:00:00	bob	x	\N	t2	USER	{}
\.


--
-- Data for Name: Zipline; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."Zipline" (id, "createdAt", "updatedAt", "firstSetup", "filesRoute", "filesExtensionlessUrls", "websiteExternalLinks") FROM stdin;
z1	2024-01-01 00:00:00	2024-01-01 00:00:00	f	/u	f	[{"name": "GitHub"}]
\.


--
-- Data for Name: _FileToTag; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."_FileToTag" ("A", "B") FROM stdin;
cf_1	cg_1
cf_1	cg_2
cf_4	cg_2
\.


--
-- Name: File File_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."File"
    ADD CONSTRAINT "File_pkey" PRIMARY KEY (id);


--
-- Name: Folder Folder_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Folder"
    ADD CONSTRAINT "Folder_pkey" PRIMARY KEY (id);


--
-- Name: Metric Metric_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Metric"
    ADD CONSTRAINT "Metric_pkey" PRIMARY KEY (id);


--
-- Name: Tag Tag_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Tag"
    ADD CONSTRAINT "Tag_name_key" UNIQUE (name);


--
-- Name: Tag Tag_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Tag"
    ADD CONSTRAINT "Tag_pkey" PRIMARY KEY (id);


--
-- Name: Thumbnail Thumbnail_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Thumbnail"
    ADD CONSTRAINT "Thumbnail_pkey" PRIMARY KEY (id);


--
-- Name: User User_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."User"
    ADD CONSTRAINT "User_pkey" PRIMARY KEY (id);


--
-- Name: User User_username_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."User"
    ADD CONSTRAINT "User_username_key" UNIQUE (username);


--
-- Name: Zipline Zipline_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Zipline"
    ADD CONSTRAINT "Zipline_pkey" PRIMARY KEY (id);


--
-- Name: _FileToTag _FileToTag_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."_FileToTag"
    ADD CONSTRAINT "_FileToTag_pkey" PRIMARY KEY ("A", "B");


--
-- Name: File File_folderId_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."File"
    ADD CONSTRAINT "File_folderId_fkey" FOREIGN KEY ("folderId") REFERENCES public."Folder"(id);


--
-- Name: File File_userId_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."File"
    ADD CONSTRAINT "File_userId_fkey" FOREIGN KEY ("userId") REFERENCES public."User"(id);


--
-- Name: Folder Folder_userId_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Folder"
    ADD CONSTRAINT "Folder_userId_fkey" FOREIGN KEY ("userId") REFERENCES public."User"(id);


--
-- Name: Thumbnail Thumbnail_fileId_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Thumbnail"
    ADD CONSTRAINT "Thumbnail_fileId_fkey" FOREIGN KEY ("fileId") REFERENCES public."File"(id);


--
-- Name: _FileToTag _FileToTag_A_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."_FileToTag"
    ADD CONSTRAINT "_FileToTag_A_fkey" FOREIGN KEY ("A") REFERENCES public."File"(id);


--
-- Name: _FileToTag _FileToTag_B_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."_FileToTag"
    ADD CONSTRAINT "_FileToTag_B_fkey" FOREIGN KEY ("B") REFERENCES public."Tag"(id);


--
-- PostgreSQL database dump complete
--

\unrestrict rPWkiMSCyM8pheYWdq1nLPHU1miUclt4eVwbNsyvoLTBJOqM9SaMYTejesUUVFQ

