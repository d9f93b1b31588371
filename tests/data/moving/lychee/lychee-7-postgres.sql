--
-- PostgreSQL database dump
--

\restrict OfyyezZIgysoU7YFxL5cLcLd9VKAPzSlnNjhLsKSsrKTKfBeeJvwk8XqHFGmvPp

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
-- Name: access_permissions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.access_permissions (
    id integer NOT NULL,
    base_album_id character(24),
    user_id integer,
    user_group_id integer,
    is_link_required boolean DEFAULT false NOT NULL,
    password character varying(100),
    grants_full_photo_access boolean DEFAULT false NOT NULL
);


--
-- Name: access_permissions_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.access_permissions_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: access_permissions_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.access_permissions_id_seq OWNED BY public.access_permissions.id;


--
-- Name: albums; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.albums (
    id character(24) NOT NULL,
    parent_id character(24),
    license character varying(20) DEFAULT 'none'::character varying NOT NULL,
    cover_id character(24),
    _lft integer NOT NULL,
    _rgt integer NOT NULL
);


--
-- Name: base_albums; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.base_albums (
    id character(24) NOT NULL,
    legacy_id bigint,
    created_at timestamp(6) without time zone NOT NULL,
    title character varying(100) NOT NULL,
    description text,
    owner_id integer NOT NULL,
    is_nsfw boolean DEFAULT false NOT NULL
);


--
-- Name: photo_album; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.photo_album (
    photo_id character(24) NOT NULL,
    album_id character(24) NOT NULL
);


--
-- Name: photos; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.photos (
    id character(24) NOT NULL,
    legacy_id bigint,
    created_at timestamp(6) without time zone NOT NULL,
    updated_at timestamp(6) without time zone NOT NULL,
    owner_id integer NOT NULL,
    title character varying(100) NOT NULL,
    description text,
    type character varying(30) NOT NULL,
    taken_at timestamp(6) without time zone,
    taken_at_orig_tz character varying(31),
    checksum character varying(40) NOT NULL
);


--
-- Name: photos_tags; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.photos_tags (
    photo_id character(24) NOT NULL,
    tag_id integer NOT NULL
);


--
-- Name: size_variants; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.size_variants (
    id integer NOT NULL,
    photo_id character(24) NOT NULL,
    type integer NOT NULL,
    short_path character varying(255) NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    filesize bigint DEFAULT 0 NOT NULL,
    storage_disk character varying(255) DEFAULT 'images'::character varying NOT NULL
);


--
-- Name: size_variants_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.size_variants_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: size_variants_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.size_variants_id_seq OWNED BY public.size_variants.id;


--
-- Name: tags; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.tags (
    id integer NOT NULL,
    name character varying(255) NOT NULL,
    description text
);


--
-- Name: tags_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.tags_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: tags_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.tags_id_seq OWNED BY public.tags.id;


--
-- Name: users; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.users (
    id integer NOT NULL,
    username character varying(128) NOT NULL,
    email character varying(100)
);


--
-- Name: users_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.users_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: users_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.users_id_seq OWNED BY public.users.id;


--
-- Name: access_permissions id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.access_permissions ALTER COLUMN id SET DEFAULT nextval('public.access_permissions_id_seq'::regclass);


--
-- Name: size_variants id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.size_variants ALTER COLUMN id SET DEFAULT nextval('public.size_variants_id_seq'::regclass);


--
-- Name: tags id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tags ALTER COLUMN id SET DEFAULT nextval('public.tags_id_seq'::regclass);


--
-- Name: users id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.users ALTER COLUMN id SET DEFAULT nextval('public.users_id_seq'::regclass);


--
-- Data for Name: access_permissions; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.access_permissions (id, base_album_id, user_id, user_group_id, is_link_required, password, grants_full_photo_access) FROM stdin;
1	AlbumAlbumAlbumAlbum0001	\N	\N	f	\N	t
2	AlbumAlbumAlbumAlbum0002	2	\N	f	\N	f
\.


--
-- Data for Name: albums; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.albums (id, parent_id, license, cover_id, _lft, _rgt) FROM stdin;
AlbumAlbumAlbumAlbum0001	\N	none	\N	1	2
AlbumAlbumAlbumAlbum0002	\N	none	\N	3	4
\.


--
-- Data for Name: base_albums; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.base_albums (id, legacy_id, created_at, title, description, owner_id, is_nsfw) FROM stdin;
AlbumAlbumAlbumAlbum0001	15000000000001	2025-01-01 00:00:00	Öland 2025	\N	1	f
AlbumAlbumAlbumAlbum0002	\N	2025-01-01 00:00:00	Only bob	\N	1	f
\.


--
-- Data for Name: photo_album; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.photo_album (photo_id, album_id) FROM stdin;
PhotoPhotoPhotoPhoto0001	AlbumAlbumAlbumAlbum0001
PhotoPhotoPhotoPhoto0001	AlbumAlbumAlbumAlbum0002
PhotoPhotoPhotoPhoto0002	AlbumAlbumAlbumAlbum0002
\.


--
-- Data for Name: photos; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.photos (id, legacy_id, created_at, updated_at, owner_id, title, description, type, taken_at, taken_at_orig_tz, checksum) FROM stdin;
PhotoPhotoPhotoPhoto0001	15000000000011	2025-06-07 08:09:10.123456	2025-06-07 00:00:00	1	IMG_1.JPG	A mill	image/jpeg	2025-06-01 12:00:00	+02:00	c
PhotoPhotoPhotoPhoto0002	\N	2025-06-08 08:09:10	2025-06-07 00:00:00	2	drawing	\N	image/png	\N	\N	c
PhotoPhotoPhotoPhoto0003	\N	2025-06-09 00:00:00	2025-06-07 00:00:00	1	raw one	\N	image/x-canon-cr2	\N	\N	c
PhotoPhotoPhotoPhoto0004	\N	2025-06-09 00:00:00	2025-06-07 00:00:00	1	far	\N	image/png	\N	\N	c
\.


--
-- Data for Name: photos_tags; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.photos_tags (photo_id, tag_id) FROM stdin;
PhotoPhotoPhotoPhoto0001	1
PhotoPhotoPhotoPhoto0001	2
\.


--
-- Data for Name: size_variants; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.size_variants (id, photo_id, type, short_path, width, height, filesize, storage_disk) FROM stdin;
1	PhotoPhotoPhotoPhoto0001	1	original/ab/cd/0123456789abcdef.jpg	1	1	0	images
2	PhotoPhotoPhotoPhoto0001	3	medium/ab/cd/0123456789abcdef.jpg	1	1	0	images
3	PhotoPhotoPhotoPhoto0001	7	thumb/ab/cd/0123456789abcdef.jpg	1	1	0	images
4	PhotoPhotoPhotoPhoto0001	8	UklGRg==	1	1	0	images
5	PhotoPhotoPhotoPhoto0002	1	original/ef/01/fedcba.png	1	1	0	images
6	PhotoPhotoPhotoPhoto0003	0	raw/ef/02/raw.cr2	1	1	0	images
7	PhotoPhotoPhotoPhoto0004	1	original/ef/03/far.png	1	1	0	s3
\.


--
-- Data for Name: tags; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.tags (id, name, description) FROM stdin;
1	mill	\N
2	Wind	\N
\.


--
-- Data for Name: users; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.users (id, username, email) FROM stdin;
1	ann	ann@example.org
2	bob	\N
\.


--
-- Name: access_permissions_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.access_permissions_id_seq', 2, true);


--
-- Name: size_variants_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.size_variants_id_seq', 7, true);


--
-- Name: tags_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.tags_id_seq', 1, false);


--
-- Name: users_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.users_id_seq', 1, false);


--
-- Name: access_permissions access_permissions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.access_permissions
    ADD CONSTRAINT access_permissions_pkey PRIMARY KEY (id);


--
-- Name: albums albums_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.albums
    ADD CONSTRAINT albums_pkey PRIMARY KEY (id);


--
-- Name: base_albums base_albums_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.base_albums
    ADD CONSTRAINT base_albums_pkey PRIMARY KEY (id);


--
-- Name: photo_album photo_album_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.photo_album
    ADD CONSTRAINT photo_album_pkey PRIMARY KEY (photo_id, album_id);


--
-- Name: photos photos_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.photos
    ADD CONSTRAINT photos_pkey PRIMARY KEY (id);


--
-- Name: photos_tags photos_tags_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.photos_tags
    ADD CONSTRAINT photos_tags_pkey PRIMARY KEY (photo_id, tag_id);


--
-- Name: size_variants size_variants_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.size_variants
    ADD CONSTRAINT size_variants_pkey PRIMARY KEY (id);


--
-- Name: tags tags_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tags
    ADD CONSTRAINT tags_pkey PRIMARY KEY (id);


--
-- Name: users users_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);


--
-- Name: photo_album photo_album_album_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.photo_album
    ADD CONSTRAINT photo_album_album_id_fkey FOREIGN KEY (album_id) REFERENCES public.albums(id);


--
-- Name: photo_album photo_album_photo_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.photo_album
    ADD CONSTRAINT photo_album_photo_id_fkey FOREIGN KEY (photo_id) REFERENCES public.photos(id);


--
-- Name: photos_tags photos_tags_photo_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.photos_tags
    ADD CONSTRAINT photos_tags_photo_id_fkey FOREIGN KEY (photo_id) REFERENCES public.photos(id);


--
-- Name: photos_tags photos_tags_tag_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.photos_tags
    ADD CONSTRAINT photos_tags_tag_id_fkey FOREIGN KEY (tag_id) REFERENCES public.tags(id);


--
-- Name: size_variants size_variants_photo_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.size_variants
    ADD CONSTRAINT size_variants_photo_id_fkey FOREIGN KEY (photo_id) REFERENCES public.photos(id);


--
-- PostgreSQL database dump complete
--

\unrestrict OfyyezZIgysoU7YFxL5cLcLd9VKAPzSlnNjhLsKSsrKTKfBeeJvwk8XqHFGmvPp

