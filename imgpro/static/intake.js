// What a drop, a paste or a chooser holds: files, the pictures of folders, addresses.

const PICTURE = /\.(jpe?g|jfif|png|gif|webp|avif|hei[cf]|svg|bmp|ico)$/i;

// In a folder lies more than pictures; what was chosen by itself is sent as it is, and the server judges it.
const isPicture = (file) => (file.type ? file.type.startsWith("image/") : PICTURE.test(file.name));

export function picturesOf(files) {
  const pictures = files.filter(isPicture);
  return { files: pictures, skipped: files.length - pictures.length };
}

// Everything in a drop, folders too, however deep. What is in it can be asked only while the event is handled.
export async function dropped(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = { files: [...data.files], skipped: 0 };
  if (!entries.some((entry) => entry.isDirectory)) return found;
  found.files = [];
  const walk = async (entry, inside) => {
    if (entry.isFile) {
      const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
      if (file && (isPicture(file) || !inside)) found.files.push(file);
      else found.skipped += 1;
      return;
    }
    const reader = entry.createReader();
    for (let some = [0]; some.length; ) {
      some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([]))); // at most a hundred
      for (const one of some) await walk(one, true);
    }
  };
  for (const entry of entries) await walk(entry, false);
  return found;
}

export function textOf(data) {
  return (data.getData("text/uri-list") || data.getData("text/plain")).trim();
}

// Words that are no address are left out.
export function addresses(text) {
  return text.split(/\s+/).filter((word) => /^https?:\/\/[^\s/]/i.test(word));
}
