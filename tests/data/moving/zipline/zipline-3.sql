--
-- PostgreSQL database dump
--

\restrict FrTlGcLDIEXuZN380WaZnWBjzXdIV4iyQggmfgBN4gHFbpMdhPMzYuVJgZgbTFR

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

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: File; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."File" (
    id integer NOT NULL,
    name text NOT NULL,
    mimetype text DEFAULT 'image/png'::text NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    views integer DEFAULT 0 NOT NULL,
    favorite boolean DEFAULT false NOT NULL,
    embed boolean DEFAULT false NOT NULL,
    password text,
    "expiresAt" timestamp(3) without time zone,
    "maxViews" integer,
    "originalName" text,
    size bigint DEFAULT 0 NOT NULL,
    "userId" integer,
    "folderId" integer
);


--
-- Name: File_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public."File_id_seq"
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: File_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public."File_id_seq" OWNED BY public."File".id;


--
-- Name: Folder; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."Folder" (
    id integer NOT NULL,
    name text NOT NULL,
    public boolean DEFAULT false NOT NULL,
    "createdAt" timestamp(3) without time zone DEFAULT now() NOT NULL,
    "updatedAt" timestamp(3) without time zone NOT NULL,
    "userId" integer NOT NULL
);


--
-- Name: Folder_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public."Folder_id_seq"
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: Folder_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public."Folder_id_seq" OWNED BY public."Folder".id;


--
-- Name: InvisibleFile; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."InvisibleFile" (
    id integer NOT NULL,
    invis text NOT NULL,
    "fileId" integer NOT NULL
);


--
-- Name: InvisibleFile_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public."InvisibleFile_id_seq"
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: InvisibleFile_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public."InvisibleFile_id_seq" OWNED BY public."InvisibleFile".id;


--
-- Name: User; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."User" (
    id integer NOT NULL,
    uuid uuid,
    username text NOT NULL,
    password text,
    token text NOT NULL,
    administrator boolean DEFAULT false NOT NULL
);


--
-- Name: User_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public."User_id_seq"
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: User_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public."User_id_seq" OWNED BY public."User".id;


--
-- Name: File id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."File" ALTER COLUMN id SET DEFAULT nextval('public."File_id_seq"'::regclass);


--
-- Name: Folder id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."Folder" ALTER COLUMN id SET DEFAULT nextval('public."Folder_id_seq"'::regclass);


--
-- Name: InvisibleFile id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."InvisibleFile" ALTER COLUMN id SET DEFAULT nextval('public."InvisibleFile_id_seq"'::regclass);


--
-- Name: User id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."User" ALTER COLUMN id SET DEFAULT nextval('public."User_id_seq"'::regclass);


--
-- Data for Name: File; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."File" (id, name, mimetype, "createdAt", views, favorite, embed, password, "expiresAt", "maxViews", "originalName", size, "userId", "folderId") FROM stdin;
1	kitten.png	image/png	2023-03-04 05:06:07	0	f	f	\N	\N	\N	\N	0	2	1
2	nobody.png	image/png	2023-03-05 05:06:07	0	f	f	\N	\N	\N	\N	0	\N	\N
3	over.png	image/png	2023-03-06 05:06:07	0	f	f	\N	2023-03-07 05:06:07	\N	\N	0	2	\N
\.


--
-- Data for Name: Folder; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."Folder" (id, name, public, "createdAt", "updatedAt", "userId") FROM stdin;
1	Cats	f	2023-01-01 00:00:00	2023-01-01 00:00:00	2
\.


--
-- Data for Name: InvisibleFile; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."InvisibleFile" (id, invis, "fileId") FROM stdin;
1	​‌‍	1
\.


--
-- Data for Name: User; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public."User" (id, uuid, username, password, token, administrator) FROM stdin;
1	\N	administrator	\N	t	f
2	\N	carol	\N	u	f
\.


--
-- Name: File_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public."File_id_seq"', 1, false);


--
-- Name: Folder_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public."Folder_id_seq"', 1, false);


--
-- Name: InvisibleFile_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public."InvisibleFile_id_seq"', 1, false);


--
-- Name: User_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public."User_id_seq"', 1, false);


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
-- Name: InvisibleFile InvisibleFile_invis_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."InvisibleFile"
    ADD CONSTRAINT "InvisibleFile_invis_key" UNIQUE (invis);


--
-- Name: InvisibleFile InvisibleFile_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."InvisibleFile"
    ADD CONSTRAINT "InvisibleFile_pkey" PRIMARY KEY (id);


--
-- Name: User User_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."User"
    ADD CONSTRAINT "User_pkey" PRIMARY KEY (id);


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
-- Name: InvisibleFile InvisibleFile_fileId_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public."InvisibleFile"
    ADD CONSTRAINT "InvisibleFile_fileId_fkey" FOREIGN KEY ("fileId") REFERENCES public."File"(id);


--
-- PostgreSQL database dump complete
--

\unrestrict FrTlGcLDIEXuZN380WaZnWBjzXdIV4iyQggmfgBN4gHFbpMdhPMzYuVJgZgbTFR

