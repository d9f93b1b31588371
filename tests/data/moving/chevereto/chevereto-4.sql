/*M!999999\- enable the sandbox mode */ 
-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: chevereto
-- ------------------------------------------------------
-- Server version	10.11.19-MariaDB-0+deb12u1

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;
/*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;
/*!40101 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;

--
-- Table structure for table `chv_albums`
--

DROP TABLE IF EXISTS `chv_albums`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_albums` (
  `album_id` bigint(32) NOT NULL AUTO_INCREMENT,
  `album_name` varchar(100) NOT NULL,
  `album_user_id` bigint(32) DEFAULT NULL,
  `album_date_gmt` datetime NOT NULL,
  `album_privacy` enum('public','password','private','private_but_link','custom') DEFAULT 'public',
  `album_password` text DEFAULT NULL,
  `album_description` text DEFAULT NULL,
  PRIMARY KEY (`album_id`)
) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_albums`
--

LOCK TABLES `chv_albums` WRITE;
/*!40000 ALTER TABLE `chv_albums` DISABLE KEYS */;
INSERT INTO `chv_albums` VALUES
(1,'Summer & Sea',1,'2024-01-01 00:00:00','public',NULL,NULL),
(2,'Locked',1,'2024-01-01 00:00:00','password','enc','x'),
(3,'By link',1,'2024-01-01 00:00:00','private_but_link',NULL,NULL),
(4,'Mine',2,'2024-01-01 00:00:00','private',NULL,NULL);
/*!40000 ALTER TABLE `chv_albums` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `chv_assets`
--

DROP TABLE IF EXISTS `chv_assets`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_assets` (
  `asset_id` bigint(32) NOT NULL AUTO_INCREMENT,
  `asset_key` varchar(255) NOT NULL,
  `asset_blob` longblob DEFAULT NULL,
  PRIMARY KEY (`asset_id`)
) ENGINE=InnoDB AUTO_INCREMENT=2 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_assets`
--

LOCK TABLES `chv_assets` WRITE;
/*!40000 ALTER TABLE `chv_assets` DISABLE KEYS */;
INSERT INTO `chv_assets` VALUES
(1,'watermark_image','âPNG\r\n\Z\n\0\'\"\\\n\0');
/*!40000 ALTER TABLE `chv_assets` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `chv_categories`
--

DROP TABLE IF EXISTS `chv_categories`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_categories` (
  `category_id` bigint(32) NOT NULL AUTO_INCREMENT,
  `category_name` varchar(32) NOT NULL,
  `category_url_key` varchar(32) NOT NULL,
  PRIMARY KEY (`category_id`)
) ENGINE=InnoDB AUTO_INCREMENT=2 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_categories`
--

LOCK TABLES `chv_categories` WRITE;
/*!40000 ALTER TABLE `chv_categories` DISABLE KEYS */;
INSERT INTO `chv_categories` VALUES
(1,'Nature','nature');
/*!40000 ALTER TABLE `chv_categories` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `chv_images`
--

DROP TABLE IF EXISTS `chv_images`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_images` (
  `image_id` bigint(32) NOT NULL AUTO_INCREMENT,
  `image_name` varchar(255) NOT NULL,
  `image_extension` varchar(255) NOT NULL,
  `image_size` bigint(11) unsigned NOT NULL,
  `image_width` int(11) NOT NULL,
  `image_height` int(11) NOT NULL,
  `image_date` datetime NOT NULL,
  `image_date_gmt` datetime NOT NULL,
  `image_title` varchar(100) DEFAULT NULL,
  `image_description` text DEFAULT NULL,
  `image_nsfw` tinyint(1) NOT NULL DEFAULT 0,
  `image_user_id` bigint(32) DEFAULT NULL,
  `image_album_id` bigint(32) DEFAULT NULL,
  `image_uploader_ip` varchar(255) NOT NULL,
  `image_storage_mode` enum('datefolder','direct','old','path') NOT NULL DEFAULT 'datefolder',
  `image_path` varchar(4096) DEFAULT NULL,
  `image_storage_id` bigint(32) DEFAULT NULL,
  `image_md5` varchar(32) NOT NULL,
  `image_original_filename` varchar(255) NOT NULL,
  `image_original_exifdata` text DEFAULT NULL,
  `image_category_id` bigint(32) DEFAULT NULL,
  `image_chain` tinyint(3) NOT NULL,
  `image_expiration_date_gmt` datetime DEFAULT NULL,
  `image_is_approved` tinyint(1) NOT NULL DEFAULT 1,
  `image_duration` int(11) NOT NULL DEFAULT 0,
  `image_type` tinyint(3) unsigned GENERATED ALWAYS AS (case when `image_extension` in ('mp4','webm','mov') then 2 when `image_extension` in ('avif','jpg','jpeg','gif','png','webp') then 1 else 0 end) STORED,
  PRIMARY KEY (`image_id`),
  KEY `image_name` (`image_name`),
  KEY `image_path` (`image_path`(255))
) ENGINE=InnoDB AUTO_INCREMENT=10 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_images`
--

LOCK TABLES `chv_images` WRITE;
/*!40000 ALTER TABLE `chv_images` DISABLE KEYS */;
INSERT INTO `chv_images` VALUES
(1,'beach','jpg',1,1,1,'2024-05-01 23:30:00','2024-05-01 21:30:00','At the sea, isn\'t it?','Line one\nLine \"two\", it\'s \\ a \0 mess;(),\'); INSERT INTO `chv_images` VALUES (99,\r\n	üèñ',0,1,1,'::1','datefolder',NULL,NULL,'m','beach.jpg','{\"x\":\"y\"}',1,7,NULL,1,0,1),
(2,'hidden','png',1,1,1,'2024-05-02 10:00:00','2024-05-02 08:00:00','hidden',NULL,0,1,2,'::1','datefolder',NULL,NULL,'m','hidden.png',NULL,NULL,5,NULL,1,0,1),
(3,'linked','png',1,1,1,'2024-05-02 10:00:00','2024-05-02 08:00:00',NULL,NULL,1,1,3,'::1','direct',NULL,NULL,'m','linked.png',NULL,NULL,5,NULL,1,0,1),
(4,'antique','gif',1,1,1,'2014-05-02 10:00:00','2014-05-02 08:00:00',NULL,NULL,0,NULL,NULL,'::1','old',NULL,NULL,'m','antique.gif',NULL,NULL,5,NULL,1,0,1),
(5,'clip','mp4',1,1,1,'2024-05-03 10:00:00','2024-05-03 08:00:00',NULL,NULL,0,1,NULL,'::1','datefolder',NULL,NULL,'m','clip.mp4',NULL,NULL,21,NULL,1,0,2),
(6,'cloudy','png',1,1,1,'2024-05-04 10:00:00','2024-05-04 08:00:00',NULL,NULL,0,1,NULL,'::1','datefolder',NULL,1,'m','cloudy.png',NULL,NULL,5,NULL,1,0,1),
(7,'over','png',1,1,1,'2024-05-04 10:00:00','2024-05-04 08:00:00',NULL,NULL,0,1,NULL,'::1','datefolder',NULL,NULL,'m','over.png',NULL,NULL,5,'2024-06-01 00:00:00',1,0,1),
(8,'waiting','png',1,1,1,'2024-05-05 10:00:00','2024-05-05 08:00:00',NULL,NULL,0,2,NULL,'::1','datefolder',NULL,NULL,'m','waiting.png',NULL,NULL,5,'2124-06-01 00:00:00',0,0,1),
(9,'passwd','',1,1,1,'2024-05-05 10:00:00','2024-05-05 08:00:00',NULL,NULL,0,2,NULL,'::1','path','/etc',NULL,'m','x',NULL,NULL,5,NULL,1,0,0);
/*!40000 ALTER TABLE `chv_images` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `chv_settings`
--

DROP TABLE IF EXISTS `chv_settings`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_settings` (
  `setting_id` int(11) NOT NULL AUTO_INCREMENT,
  `setting_name` varchar(255) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin NOT NULL,
  `setting_value` text DEFAULT NULL,
  `setting_default` text DEFAULT NULL,
  `setting_typeset` enum('string','bool') DEFAULT 'string',
  PRIMARY KEY (`setting_id`)
) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_settings`
--

LOCK TABLES `chv_settings` WRITE;
/*!40000 ALTER TABLE `chv_settings` DISABLE KEYS */;
INSERT INTO `chv_settings` VALUES
(1,'crypt_salt','b3f5a1',NULL,'string'),
(2,'id_padding','999',NULL,'string'),
(3,'route_image','image',NULL,'string'),
(4,'root_route','user',NULL,'string');
/*!40000 ALTER TABLE `chv_settings` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `chv_storages`
--

DROP TABLE IF EXISTS `chv_storages`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_storages` (
  `storage_id` bigint(32) NOT NULL AUTO_INCREMENT,
  `storage_api_id` bigint(32) NOT NULL,
  `storage_name` varchar(255) NOT NULL,
  `storage_url` varchar(255) NOT NULL,
  `storage_secret` text DEFAULT NULL,
  PRIMARY KEY (`storage_id`)
) ENGINE=InnoDB AUTO_INCREMENT=2 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_storages`
--

LOCK TABLES `chv_storages` WRITE;
/*!40000 ALTER TABLE `chv_storages` DISABLE KEYS */;
INSERT INTO `chv_storages` VALUES
(1,1,'Wasabi','https://cdn.example.org/','secret\'s');
/*!40000 ALTER TABLE `chv_storages` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `chv_tags`
--

DROP TABLE IF EXISTS `chv_tags`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_tags` (
  `tag_id` bigint(32) NOT NULL AUTO_INCREMENT,
  `tag_name` varchar(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `tag_user_id` bigint(32) NOT NULL,
  PRIMARY KEY (`tag_id`),
  UNIQUE KEY `tag_name` (`tag_name`)
) ENGINE=InnoDB AUTO_INCREMENT=3 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_tags`
--

LOCK TABLES `chv_tags` WRITE;
/*!40000 ALTER TABLE `chv_tags` DISABLE KEYS */;
INSERT INTO `chv_tags` VALUES
(1,'waves',1),
(2,'Sand',1);
/*!40000 ALTER TABLE `chv_tags` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `chv_tags_files`
--

DROP TABLE IF EXISTS `chv_tags_files`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_tags_files` (
  `tag_file_tag_id` bigint(32) NOT NULL,
  `tag_file_file_id` bigint(32) NOT NULL,
  UNIQUE KEY `tag_file_UNIQUE` (`tag_file_tag_id`,`tag_file_file_id`),
  KEY `tag_file_file_id` (`tag_file_file_id`),
  CONSTRAINT `chv_tags_files_ibfk_1` FOREIGN KEY (`tag_file_tag_id`) REFERENCES `chv_tags` (`tag_id`) ON DELETE CASCADE,
  CONSTRAINT `chv_tags_files_ibfk_2` FOREIGN KEY (`tag_file_file_id`) REFERENCES `chv_images` (`image_id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_tags_files`
--

LOCK TABLES `chv_tags_files` WRITE;
/*!40000 ALTER TABLE `chv_tags_files` DISABLE KEYS */;
INSERT INTO `chv_tags_files` VALUES
(1,1),
(1,3),
(2,1);
/*!40000 ALTER TABLE `chv_tags_files` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `chv_users`
--

DROP TABLE IF EXISTS `chv_users`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `chv_users` (
  `user_id` bigint(32) NOT NULL AUTO_INCREMENT,
  `user_name` varchar(255) DEFAULT NULL,
  `user_username` varchar(255) NOT NULL,
  `user_date_gmt` datetime NOT NULL,
  `user_email` varchar(255) DEFAULT NULL,
  `user_status` enum('valid','awaiting-confirmation','awaiting-email','banned') NOT NULL,
  `user_is_private` tinyint(1) NOT NULL DEFAULT 0,
  PRIMARY KEY (`user_id`),
  UNIQUE KEY `username` (`user_username`) USING BTREE
) ENGINE=InnoDB AUTO_INCREMENT=3 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `chv_users`
--

LOCK TABLES `chv_users` WRITE;
/*!40000 ALTER TABLE `chv_users` DISABLE KEYS */;
INSERT INTO `chv_users` VALUES
(1,'Ann','ann','2024-01-01 00:00:00','ann@example.org','valid',0),
(2,'Bob','bob','2024-01-01 00:00:00','bob@example.org','valid',1);
/*!40000 ALTER TABLE `chv_users` ENABLE KEYS */;
UNLOCK TABLES;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
/*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;
/*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;
/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed on 2026-11-28 22:54:45
