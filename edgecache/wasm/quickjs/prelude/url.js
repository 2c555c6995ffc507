// URL and URLSearchParams, after the WHATWG URL standard for the schemes with a host (http, https, ws, wss, ftp); other
// schemes keep their path as it is. Hosts are ASCII: a name in another script has to come as punycode.

const PORTS = { "http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21" };
const BEYOND = "[^\\x21-\\x7e]";
const escaped = (text, set, beyond = BEYOND) => text.toWellFormed().replace(new RegExp(`${beyond}|${set}`, "gu"), percent);
const percent = (character) => (character === "'" ? "%27" : encodeURIComponent(character).replace(/^[!*()~]$/, hex));
const hex = (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
const IN_PATH = '["#<>?`{}^]';
const IN_QUERY = '["#<>\']';
const IN_FRAGMENT = '["<>`]';
const IN_USER = '["#<>?`{}/:;=@[\\]^|\\\\]';

const unescapeBytes = (text) => {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text.replace(/%(?![0-9a-fA-F]{2})/g, "%25"));
  } catch {
    return decode(Uint8Array.from(unescape(encodeURIComponent(text).replace(/%25([0-9a-fA-F]{2})/g, "%$1")), (c) => c.charCodeAt(0)));
  }
};

class URLSearchParams {
  #list = [];
  #changed = null;
  constructor(init = "") {
    if (typeof init === "object" && init !== null) {
      const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
      for (const pair of pairs) {
        const [name, value, more] = [...pair];
        if (value === undefined || more !== undefined) throw new TypeError("URLSearchParams takes pairs of name and value");
        this.#list.push([String(name), String(value)]);
      }
    } else this.#parse(String(init));
  }
  static of(query, changed) {
    const params = new URLSearchParams(query);
    params.#changed = changed;
    return params;
  }
  static refresh(params, query) {
    params.#list = [];
    params.#parse(query);
  }
  #parse(query) {
    for (const part of query.replace(/^\?/, "").split("&")) {
      if (part === "") continue;
      const [name, ...rest] = part.replaceAll("+", " ").split("=");
      this.#list.push([unescapeBytes(name), unescapeBytes(rest.join("="))]);
    }
  }
  #update(list) {
    this.#list = list;
    this.#changed?.(this.toString());
  }
  get size() {
    return this.#list.length;
  }
  append(name, value) {
    this.#update([...this.#list, [String(name), String(value)]]);
  }
  delete(name, value) {
    this.#update(this.#list.filter(([n, v]) => n !== String(name) || (value !== undefined && v !== String(value))));
  }
  get(name) {
    return this.#list.find(([n]) => n === String(name))?.[1] ?? null;
  }
  getAll(name) {
    return this.#list.filter(([n]) => n === String(name)).map(([, v]) => v);
  }
  has(name, value) {
    return this.#list.some(([n, v]) => n === String(name) && (value === undefined || v === String(value)));
  }
  set(name, value) {
    const at = this.#list.findIndex(([n]) => n === String(name));
    if (at < 0) return this.append(name, value);
    const kept = this.#list.filter(([n], index) => n !== String(name) || index === at);
    kept[at] = [String(name), String(value)];
    this.#update(kept);
  }
  sort() {
    this.#update(this.#list.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  }
  forEach(callback, self) {
    for (const [name, value] of this.#list) callback.call(self, value, name, this);
  }
  *entries() {
    for (const [name, value] of this.#list) yield [name, value];
  }
  *keys() {
    for (const [name] of this.#list) yield name;
  }
  *values() {
    for (const [, value] of this.#list) yield value;
  }
  toString() {
    const form = (text) => encodeURIComponent(text.toWellFormed()).replace(/[!'()~]/g, hex).replaceAll("%20", "+");
    return this.#list.map(([name, value]) => `${form(name)}=${form(value)}`).join("&");
  }
  [Symbol.iterator]() {
    return this.entries();
  }
  get [Symbol.toStringTag]() {
    return "URLSearchParams";
  }
}

const parseHost = (raw, special) => {
  if (raw.startsWith("[")) {
    if (!/^\[[0-9a-f:.]+\]$/i.test(raw)) throw new TypeError("Invalid URL");
    return raw.toLowerCase();
  }
  const host = (special ? unescapeBytes(raw) : raw).toLowerCase();
  if (/[\x00-\x20#%/:<>?@[\\\]^|\x7f-\uffff]/.test(host) || (special && host === "")) throw new TypeError("Invalid URL");
  return /(^|\.)(\d+|0x[0-9a-f]*)\.?$/.test(host) ? parseIPv4(host) : host;
};

const parseIPv4 = (host) => {
  const parts = host.replace(/\.$/, "").split(".");
  const numbers = parts.map((part) => {
    const [digits, base] = /^0x/.test(part) ? [part.slice(2) || "0", 16] : /^0\d/.test(part) ? [part, 8] : [part, 10];
    if (!{ 16: /^[0-9a-f]+$/, 10: /^\d+$/, 8: /^[0-7]+$/ }[base].test(digits)) throw new TypeError("Invalid URL");
    return parseInt(digits, base);
  });
  const last = numbers.pop();
  if (numbers.length > 3 || numbers.some((n) => n > 255) || last >= 256 ** (4 - numbers.length)) throw new TypeError("Invalid URL");
  const value = last + numbers.reduce((sum, n, index) => sum + n * 256 ** (3 - index), 0);
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
};

const resolveDots = (path, special) => {
  const kept = [];
  const parts = (special ? path.replaceAll("\\", "/") : path).split("/");
  parts.forEach((part, index) => {
    const name = part.replace(/%2e/gi, ".");
    const last = index === parts.length - 1;
    if (name === "..") {
      if (kept.length > 1) kept.pop();
      if (last) kept.push("");
    } else if (name === ".") {
      if (last) kept.push("");
    } else kept.push(escaped(part, IN_PATH));
  });
  return kept.join("/");
};

// scheme, authority, path, query, fragment of a reference (RFC 3986, appendix B)
const REFERENCE = /^(?:([a-z][a-z0-9+.-]*):)?(?:[/\\]{2}([^/\\?#]*))?([^?#]*)(\?[^#]*)?(#.*)?$/is;

class URL {
  #parts; // protocol, username, password, host, port, path, search, hash
  #params = null;
  constructor(reference, base) {
    this.#parts = URL.#resolve(String(reference), base === undefined ? null : new URL(base).#parts);
  }
  static canParse(reference, base) {
    return URL.parse(reference, base) !== null;
  }
  static parse(reference, base) {
    try {
      return new URL(reference, base);
    } catch {
      return null;
    }
  }
  static #resolve(text, base) {
    const trimmed = text.replace(/^[\x00-\x20]+|[\x00-\x20]+$/g, "").replace(/[\t\n\r]/g, "");
    let [, scheme, authority, path, query, fragment] = REFERENCE.exec(trimmed) ?? [];
    const parts = { protocol: scheme && `${scheme.toLowerCase()}:`, username: "", password: "", host: "", port: "" };
    if (!scheme && !base) throw new TypeError("Invalid URL");
    parts.protocol ??= base.protocol;
    const special = parts.protocol in PORTS;
    if (special && (authority === "" || (scheme && authority === undefined && parts.protocol !== base?.protocol))) {
      [, authority, path] = /^[/\\]*([^/\\]*)(.*)$/s.exec(path);
    }
    const relative = base && authority === undefined && (!scheme || (special && parts.protocol === base.protocol));
    if (relative) {
      if (base.opaque && !trimmed.startsWith("#")) throw new TypeError("Invalid URL");
      Object.assign(parts, { username: base.username, password: base.password, host: base.host, port: base.port });
      parts.opaque = base.opaque;
      if (path === "") {
        parts.path = base.path;
        query ??= base.search || undefined;
      } else parts.path = resolveDots(/^[/\\]/.test(path) ? path : base.path.replace(/[^/]*$/, "") + path, special);
    } else {
      parts.opaque = !special && authority === undefined && !path.startsWith("/");
      if (authority !== undefined) URL.#authority(parts, authority, special);
      else if (special) throw new TypeError("Invalid URL");
      parts.path = parts.opaque ? escaped(path, "[\\x00-\\x1f]", "[^ -~]") : resolveDots(special && !/^[/\\]/.test(path) ? `/${path}` : path, special);
    }
    parts.search = query && query !== "?" ? escaped(query, IN_QUERY) : "";
    parts.hash = fragment && fragment !== "#" ? `#${escaped(fragment.slice(1), IN_FRAGMENT)}` : "";
    return parts;
  }
  static #authority(parts, authority, special) {
    const at = authority.lastIndexOf("@");
    if (at >= 0) {
      const [user, ...password] = authority.slice(0, at).split(":");
      parts.username = escaped(user, IN_USER);
      parts.password = escaped(password.join(":"), IN_USER);
    }
    const [, host, port] = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(authority.slice(at + 1)) ?? [];
    if (host === undefined || Number(port ?? 0) > 65535) throw new TypeError("Invalid URL");
    parts.host = parseHost(host, special);
    parts.port = port && String(Number(port)) !== PORTS[parts.protocol] ? String(Number(port)) : "";
  }
  #change(name, value) {
    this.#parts[name] = value;
    if (name === "search" && this.#params) URLSearchParams.refresh(this.#params, value);
  }
  get protocol() {
    return this.#parts.protocol;
  }
  set protocol(value) {
    const protocol = `${String(value).replace(/:.*$/s, "").toLowerCase()}:`;
    if (protocol in PORTS === this.#parts.protocol in PORTS && /^[a-z][a-z0-9+.-]*:$/.test(protocol)) {
      this.#change("protocol", protocol);
      if (PORTS[protocol] === this.#parts.port) this.#change("port", "");
    }
  }
  get username() {
    return this.#parts.username;
  }
  set username(value) {
    this.#change("username", escaped(String(value), IN_USER));
  }
  get password() {
    return this.#parts.password;
  }
  set password(value) {
    this.#change("password", escaped(String(value), IN_USER));
  }
  get host() {
    return this.#parts.host + (this.#parts.port && `:${this.#parts.port}`);
  }
  set host(value) {
    const [, host, port] = /^(\[[^\]]*\]|[^:/?#\\]*)(?::(\d+))?/.exec(String(value));
    this.hostname = host;
    if (port) this.port = port;
  }
  get hostname() {
    return this.#parts.host;
  }
  set hostname(value) {
    try {
      this.#change("host", parseHost(String(value), this.#parts.protocol in PORTS));
    } catch {
      // what is no host name leaves the URL as it is
    }
  }
  get port() {
    return this.#parts.port;
  }
  set port(value) {
    const [digits] = /^\d*/.exec(String(value));
    if (Number(digits) <= 65535) this.#change("port", digits === "" || digits === PORTS[this.protocol] ? "" : String(Number(digits)));
  }
  get origin() {
    return this.#parts.protocol in PORTS ? `${this.#parts.protocol}//${this.host}` : "null";
  }
  get pathname() {
    return this.#parts.path;
  }
  set pathname(value) {
    if (!this.#parts.opaque) this.#change("path", resolveDots(String(value).replace(/^(?![/\\])/, "/"), this.#parts.protocol in PORTS));
  }
  get search() {
    return this.#parts.search;
  }
  set search(value) {
    const query = String(value).replace(/^\?/, "");
    this.#change("search", query && `?${escaped(query, IN_QUERY)}`);
  }
  get hash() {
    return this.#parts.hash;
  }
  set hash(value) {
    const fragment = String(value).replace(/^#/, "");
    this.#change("hash", fragment && `#${escaped(fragment, IN_FRAGMENT)}`);
  }
  get searchParams() {
    this.#params ??= URLSearchParams.of(this.search, (query) => (this.#parts.search = query && `?${query}`));
    return this.#params;
  }
  get href() {
    const { protocol, username, password, host, path, search, hash } = this.#parts;
    const user = username || password ? `${username}${password && `:${password}`}@` : "";
    const authority = host || protocol in PORTS ? `//${user}${this.host}` : "";
    return `${protocol}${authority}${path}${search}${hash}`;
  }
  set href(value) {
    this.#parts = URL.#resolve(String(value), null);
    if (this.#params) URLSearchParams.refresh(this.#params, this.search);
  }
  toString() {
    return this.href;
  }
  toJSON() {
    return this.href;
  }
}

expose({ URL, URLSearchParams });
