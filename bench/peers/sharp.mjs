// sharp with nothing around it: the least that a node server can do for GET /{width}/{format}/{name}.
import { createServer } from "node:http";
import { basename, join } from "node:path";
import sharp from "sharp";

const [folder, port] = process.argv.slice(2);
const options = { jpeg: { quality: 82 }, webp: { quality: 80 }, png: {} };
sharp.cache(false);

createServer(async (request, response) => {
  const [, width, format, name] = request.url.split("/");
  try {
    const body = await sharp(join(folder, basename(name)))
      .rotate()
      .resize(Number(width))
      .toFormat(format, options[format])
      .toBuffer();
    response.writeHead(200, { "Content-Type": `image/${format}`, "Content-Length": body.length });
    response.end(body);
  } catch (error) {
    response.writeHead(500);
    response.end(String(error));
  }
}).listen(Number(port), "127.0.0.1");
