// Text and bytes: TextEncoder, TextDecoder, structuredClone; what the other parts share to convert one into the other.
// The files of this folder are joined, in the order of snapshot.PRELUDE, into the body of one function, whose parameter
// `native` holds the functions of the host. `atob`, `btoa`, `queueMicrotask` and `DOMException` come with QuickJS.

const expose = (members) => {
  for (const [name, value] of Object.entries(members)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
};

// A Uint8Array over the bytes of an ArrayBuffer or of a view, not copied.
const viewOf = (source) =>
  ArrayBuffer.isView(source)
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
    : new Uint8Array(source);

const isBinary = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value);

// What the host takes: strings, and ArrayBuffers that are sent whole.
const toHost = (value) => {
  if (!isBinary(value)) return String(value);
  if (value instanceof ArrayBuffer) return value;
  const whole = value.byteOffset === 0 && value.byteLength === value.buffer.byteLength;
  return whole ? value.buffer : viewOf(value).slice().buffer;
};

const encode = (text) => (text === "" ? new Uint8Array(0) : new Uint8Array(native.encode(text.toWellFormed())));

const decode = (bytes, fatal = false) => {
  if (bytes.length < 256) {
    const text = String.fromCharCode.apply(null, bytes);
    if (!/[^\x00-\x7f]/.test(text)) return text;
  }
  const text = native.decode(toHost(bytes), fatal ? "fatal" : "");
  if (text === undefined) throw new TypeError("the bytes are not valid UTF-8");
  return text;
};

const withoutMark = (text) => (text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);

class TextEncoder {
  get encoding() {
    return "utf-8";
  }
  encode(text = "") {
    return encode(String(text));
  }
  encodeInto(text, target) {
    let read = 0;
    let written = 0;
    for (const character of String(text)) {
      const bytes = encode(character);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      read += character.length;
      written += bytes.length;
    }
    return { read, written };
  }
}

class TextDecoder {
  #fatal;
  #ignoreBOM;
  #held = new Uint8Array(0); // the beginning of a character whose end has not come yet
  #begun = false;
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^\s*(utf-?8|unicode-1-1-utf-8)\s*$/i.test(label)) throw new RangeError(`only utf-8 is supported, not ${label}`);
    this.#fatal = Boolean(fatal);
    this.#ignoreBOM = Boolean(ignoreBOM);
  }
  get encoding() {
    return "utf-8";
  }
  get fatal() {
    return this.#fatal;
  }
  get ignoreBOM() {
    return this.#ignoreBOM;
  }
  decode(source = new Uint8Array(0), { stream = false } = {}) {
    let bytes = viewOf(source);
    if (this.#held.length) {
      const joined = new Uint8Array(this.#held.length + bytes.length);
      joined.set(this.#held);
      joined.set(bytes, this.#held.length);
      bytes = joined;
    }
    const complete = stream ? completeUntil(bytes) : bytes.length;
    this.#held = bytes.slice(complete);
    const text = decode(complete === bytes.length ? bytes : bytes.subarray(0, complete), this.#fatal);
    const first = !this.#begun;
    this.#begun = stream && (this.#begun || text !== "");
    return first && !this.#ignoreBOM ? withoutMark(text) : text;
  }
}

// Where the last character that is complete ends.
const completeUntil = (bytes) => {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte >= 0xc0) {
      const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return needs > back ? bytes.length - back : bytes.length;
    }
    if (byte < 0x80) break;
  }
  return bytes.length;
};

const cloneInto = (value, seen) => {
  if (typeof value === "function" || typeof value === "symbol") {
    throw new DOMException(`a ${typeof value} cannot be cloned`, "DataCloneError");
  }
  if (typeof value !== "object" || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const keep = (copy) => (seen.set(value, copy), copy);
  if (value instanceof Date) return keep(new Date(value.getTime()));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) return keep(value.slice(0));
  if (ArrayBuffer.isView(value)) return keep(new value.constructor(cloneInto(value.buffer, seen), value.byteOffset, value.length));
  if (value instanceof Map) {
    const copy = keep(new Map());
    for (const [key, each] of value) copy.set(cloneInto(key, seen), cloneInto(each, seen));
    return copy;
  }
  if (value instanceof Set) {
    const copy = keep(new Set());
    for (const each of value) copy.add(cloneInto(each, seen));
    return copy;
  }
  if (value instanceof Error) return keep(Object.assign(new Error(value.message), { name: value.name, stack: value.stack }));
  const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
  for (const key of Object.keys(value)) copy[key] = cloneInto(value[key], seen);
  return copy;
};

const structuredClone = (value) => cloneInto(value, new Map());

expose({ TextEncoder, TextDecoder, structuredClone, self: globalThis });
