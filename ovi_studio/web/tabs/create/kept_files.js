// Files of the form are kept in the browser's own database: the server forgets its uploads when it is restarted.
const FILES = ["image", "table"];
const MOST_FILES = 8;
let database = null;

function files() {
  database ??= new Promise((resolve, reject) => {
    const opening = indexedDB.open("ovi-files", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("files", { keyPath: "path" });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
  return database;
}
const answer = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
const store = async (mode) => (await files()).transaction("files", mode).objectStore("files");

async function keepFile(value) {
  try {
    if (await answer((await store("readonly")).getKey(value.path))) return;
    const reply = await fetch(value.url);
    if (!reply.ok) return;
    const blob = await reply.blob();
    const place = await store("readwrite");
    place.put({ path: value.path, blob, time: Date.now() });
    const all = await answer(place.getAll());
    all.sort((one, other) => other.time - one.time);
    all.slice(MOST_FILES).forEach((old) => place.delete(old.path));
  } catch {
    // A private window may have no database; the file then lives as long as the server's copy.
  }
}

// Uploads a file again if the server no longer has it; null if the browser has it no longer either.
async function revived(name, value) {
  if (!FILES.includes(name) || !value?.path) return value;
  try {
    if ((await fetch(value.url, { method: "HEAD", cache: "no-store" })).ok) return value;
    const kept = await answer((await store("readonly")).get(value.path));
    if (!kept) throw new Error("not kept");
    const fileName = value.orig_name ?? value.path.split(/[\\/]/).pop();
    const { path, url } = await upload(new File([kept.blob], fileName, { type: kept.blob.type }));
    (await store("readwrite")).put({ ...kept, path, time: Date.now() });
    return { ...value, path, url };
  } catch {
    toast(name === "image" ? props.words.lost_picture : props.words.lost_table);
    return null;
  }
}

// Before clips are queued: the values of the form, with the files that a restarted server has lost.
composer.withFiles = async (values, places) => {
  for (const [name, index] of Object.entries(places)) values[index] = await revived(name, values[index]);
  return values;
};
