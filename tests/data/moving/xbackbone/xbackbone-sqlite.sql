-- XBackBone 3 on SQLite: what its migrations leave, and a few rows.
CREATE TABLE `users` (`id` INTEGER PRIMARY KEY AUTOINCREMENT, `email` VARCHAR(30) NOT NULL, `username` VARCHAR(30) NOT NULL, `password` VARCHAR(256) NOT NULL, `user_code` VARCHAR(5), `token` VARCHAR(256), `active` BOOLEAN NOT NULL DEFAULT 1, `is_admin` BOOLEAN NOT NULL DEFAULT 0, `registration_date` NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE `uploads` (`id` INTEGER PRIMARY KEY AUTOINCREMENT, `user_id` INTEGER(20), `code` VARCHAR(64) NOT NULL, `filename` VARCHAR(128) NOT NULL, `storage_path` VARCHAR(256) NOT NULL, `published` BOOLEAN NOT NULL DEFAULT 1, `timestamp` NOT NULL DEFAULT CURRENT_TIMESTAMP, FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON UPDATE CASCADE ON DELETE SET NULL);
CREATE TABLE `settings` (`key` VARCHAR(32) PRIMARY KEY, `value` TEXT);
CREATE TABLE `tags` (`id` INTEGER PRIMARY KEY AUTOINCREMENT, `name` VARCHAR(32) NOT NULL, `timestamp` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE `uploads_tags` (`upload_id` INTEGER, `tag_id` INTEGER, PRIMARY KEY (`upload_id`, `tag_id`));
INSERT INTO users (id, email, username, password, user_code, token) VALUES (1,'ann@example.org','ann','x','a1B','t'),(2,'bob@example.org','bob','x','Zz9','u');
INSERT INTO uploads VALUES (1,1,'RoMiNa','It''s "me".png','a1B/RoMiNa.png',1,'2022-03-04 05:06:07'),(2,2,'HiDDeN','private.jpg','Zz9/HiDDeN.jpg',0,'2022-03-05 05:06:07'),(3,NULL,'LoNeLy','lonely.png','a1B/LoNeLy.png',1,'2022-03-06 05:06:07'),(4,1,'TeXtS','notes.txt','a1B/TeXtS.txt',1,'2022-03-07 05:06:07'),(5,1,'EsCaPe','e.png','../../etc/e.png',1,'2022-03-07 05:06:07'),(6,1,'GoNe','gone.png','a1B/GoNe.png',1,'2022-03-07 05:06:07');
INSERT INTO tags (id, name) VALUES (1,'image'),(2,'Portrait');
INSERT INTO uploads_tags VALUES (1,1),(1,2);
