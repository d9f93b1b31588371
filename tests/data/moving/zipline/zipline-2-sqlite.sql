-- Zipline 2 on SQLite, where Prisma writes times as milliseconds.
CREATE TABLE "User" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "username" TEXT NOT NULL, "password" TEXT NOT NULL, "token" TEXT NOT NULL, "administrator" BOOLEAN NOT NULL DEFAULT false);
CREATE TABLE "Image" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "file" TEXT NOT NULL, "mimetype" TEXT NOT NULL DEFAULT 'image/png', "created_at" DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, "views" INTEGER NOT NULL DEFAULT 0, "userId" INTEGER NOT NULL);
CREATE TABLE "InvisibleImage" ("id" INTEGER NOT NULL, "invis" TEXT NOT NULL);
INSERT INTO "User" VALUES (1, 'dora', 'x', 't', 1);
INSERT INTO "Image" VALUES (1, 'first.png', 'image/png', 1630000000123, 0, 1), (2, 'second.png', 'image/png', '2021-08-27 10:00:00', 0, 1);
INSERT INTO "InvisibleImage" VALUES (2, 'inv');
