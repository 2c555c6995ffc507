// Headers, Request, Response, and the streams that their bodies can be read as: the parts of the Fetch standard that a
// handler needs. A body is whole in memory; `body` gives it as a stream of one part. No FormData and no Blob.

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FIELDS = Symbol("fields");
const DATA = Symbol("body");
const PLAIN = /^[!-~](?:[ -~]*[!-~])?$/;
const fieldName = (name) => {
  const text = String(name);
  if (!TOKEN.test(text)) throw new TypeError(`${JSON.stringify(text)} is not a valid header name`);
  return text.toLowerCase();
};
const fieldValue = (value) => {
  let text = String(value);
  if (!PLAIN.test(text)) text = text.replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  else return text;
  if (/[\0\n\r]/.test(text)) throw new TypeError("a header value may not hold line breaks or NUL");
  return text;
};

// A flat list of name and value, which is how they come in and go out: most handlers look at few of them.
class Headers {
  constructor(init) {
    this[FIELDS] = [];
    if (init === undefined || init === null) return;
    if (init instanceof Headers) this[FIELDS] = init[FIELDS].slice();
    else if (typeof init[Symbol.iterator] === "function") {
      for (const pair of init) {
        const [name, value, more] = [...pair];
        if (value === undefined || more !== undefined) throw new TypeError("Headers takes pairs of name and value");
        this.append(name, value);
      }
    } else if (typeof init === "object") for (const name of Object.keys(init)) this.append(name, init[name]);
    else throw new TypeError("Headers takes an object, pairs, or Headers");
  }
  append(name, value) {
    this[FIELDS].push(fieldName(name), fieldValue(value));
  }
  delete(name) {
    const wanted = fieldName(name);
    this[FIELDS] = this[FIELDS].filter((_, at, fields) => fields[at & ~1] !== wanted);
  }
  get(name) {
    const wanted = fieldName(name);
    const fields = this[FIELDS];
    let found = null;
    for (let at = 0; at < fields.length; at += 2) {
      if (fields[at] === wanted) found = found === null ? fields[at + 1] : `${found}, ${fields[at + 1]}`;
    }
    return found;
  }
  getSetCookie() {
    return this[FIELDS].filter((_, at, fields) => at & 1 && fields[at - 1] === "set-cookie");
  }
  has(name) {
    return this.get(name) !== null;
  }
  set(name, value) {
    const text = fieldValue(value);
    this.delete(name);
    this[FIELDS].push(fieldName(name), text);
  }
  forEach(callback, self) {
    for (const [name, value] of this) callback.call(self, value, name, this);
  }
  *entries() {
    const names = new Set(this[FIELDS].filter((_, at) => !(at & 1)).sort());
    for (const name of names) {
      if (name === "set-cookie") for (const value of this.getSetCookie()) yield [name, value];
      else yield [name, this.get(name)];
    }
  }
  *keys() {
    for (const [name] of this) yield name;
  }
  *values() {
    for (const [, value] of this) yield value;
  }
  [Symbol.iterator]() {
    return this.entries();
  }
  get [Symbol.toStringTag]() {
    return "Headers";
  }
}

// A body as a stream of one part: reader and asynchronous iteration, nothing else of the Streams standard.
class BodyStream {
  #body;
  constructor(body) {
    this.#body = body;
  }
  get locked() {
    return this.#body.bodyUsed;
  }
  take() {
    return takeBody(this.#body);
  }
  getReader() {
    let left = this.#body[DATA] !== null;
    return {
      read: async () => {
        if (!left) return { done: true, value: undefined };
        left = false;
        return { done: false, value: bytesOf(takeBody(this.#body)) };
      },
      cancel: async () => void (left = false),
      releaseLock: () => {},
      closed: Promise.resolve(),
    };
  }
  async *[Symbol.asyncIterator]() {
    const { value, done } = await this.getReader().read();
    if (!done) yield value;
  }
  async cancel() {}
}

const bytesOf = (data) => (data === null ? new Uint8Array(0) : typeof data === "string" ? encode(data) : data);
const textOf = (data) => (data === null ? "" : withoutMark(typeof data === "string" ? data : decode(data)));
const USED = Symbol("used");
const takeBody = (body) => {
  if (body.bodyUsed) throw new TypeError("the body has already been read");
  body[USED] = body[DATA] !== null;
  return body[DATA];
};

// What may be given as a body: its data (a string or bytes), and the media type that goes with it.
const dataFrom = (init) => {
  if (init === undefined || init === null) return [null, null];
  if (typeof init === "string") return [init, "text/plain;charset=UTF-8"];
  if (isBinary(init)) return [viewOf(init).slice(), null];
  if (init instanceof URLSearchParams) return [init.toString(), "application/x-www-form-urlencoded;charset=UTF-8"];
  if (init instanceof BodyStream) return [init.take(), null];
  return [String(init), "text/plain;charset=UTF-8"];
};

class Body {
  constructor() {
    this[DATA] = null;
    this[USED] = false;
  }
  get body() {
    return this[DATA] === null ? null : new BodyStream(this);
  }
  get bodyUsed() {
    return this[USED];
  }
  async text() {
    return textOf(takeBody(this)).toWellFormed();
  }
  async json() {
    return JSON.parse(textOf(takeBody(this)));
  }
  async bytes() {
    const data = takeBody(this);
    return typeof data === "string" || data === null ? bytesOf(data) : data.slice();
  }
  async arrayBuffer() {
    return (await this.bytes()).buffer;
  }
}

const setBody = (target, init) => {
  const [data, type] = dataFrom(init);
  target[DATA] = data;
  if (type && !target.headers.has("content-type")) target.headers.set("content-type", type);
};
const cloneBody = (from, to) => {
  if (from.bodyUsed) throw new TypeError("the body has already been read");
  to[DATA] = from[DATA];
  return to;
};

const INCOMING = Symbol("incoming");
const METHODS = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]);

class Request extends Body {
  #method;
  #url;
  #signal;
  constructor(input, init = {}) {
    super();
    if (input === INCOMING) {
      this.headers = new Headers();
      return;
    }
    const from = input instanceof Request ? input : null;
    this.#url = from ? from.url : new URL(input).href;
    const method = String(init.method ?? from?.method ?? "GET");
    if (!TOKEN.test(method)) throw new TypeError(`${JSON.stringify(method)} is not a valid method`);
    this.#method = METHODS.has(method.toUpperCase()) ? method.toUpperCase() : method;
    this.#signal = init.signal ?? from?.signal;
    this.headers = new Headers(init.headers ?? from?.headers);
    const body = init.body ?? null;
    if (body !== null && (this.#method === "GET" || this.#method === "HEAD")) {
      throw new TypeError(`a ${this.#method} request has no body`);
    }
    if (body !== null) setBody(this, body);
    else if (from) this[DATA] = takeBody(from);
  }
  // The request that came in: nothing is checked again.
  static [INCOMING](method, url, fields, body) {
    const request = new Request(INCOMING);
    request.#method = method;
    request.#url = url;
    request.headers[FIELDS] = fields;
    request[DATA] = body;
    return request;
  }
  get method() {
    return this.#method;
  }
  get url() {
    return this.#url;
  }
  get signal() {
    return (this.#signal ??= new AbortController().signal);
  }
  clone() {
    return cloneBody(this, new Request(this.#url, { method: this.#method, headers: this.headers, signal: this.#signal }));
  }
}

const NULL_BODY = new Set([204, 205, 304]);

class Response extends Body {
  constructor(body = null, { status = 200, statusText = "", headers } = {}) {
    super();
    const number = Number(status);
    if (!(Number.isInteger(number) && number >= 200 && number <= 599)) {
      throw new RangeError(`a status is a number from 200 to 599, not ${status}`);
    }
    if (body !== null && body !== undefined && NULL_BODY.has(number)) throw new TypeError(`a response with status ${number} has no body`);
    this.status = number;
    this.statusText = String(statusText);
    this.headers = new Headers(headers);
    this.url = "";
    setBody(this, body);
  }
  static json(value, init = {}) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError("the value cannot be written as JSON");
    const headers = new Headers(init.headers);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(text, { ...init, headers });
  }
  static redirect(url, status = 302) {
    if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(`${status} is not a status of redirects`);
    return new Response(null, { status, headers: { location: new URL(url).href } });
  }
  static error() {
    throw new TypeError("a handler cannot answer with a network error: throw instead");
  }
  get ok() {
    return this.status >= 200 && this.status <= 299;
  }
  get redirected() {
    return false;
  }
  get type() {
    return "default";
  }
  clone() {
    const copy = new Response(null, { status: this.status, statusText: this.statusText, headers: this.headers });
    copy.url = this.url;
    return cloneBody(this, copy);
  }
}

class AbortSignal {
  aborted = false;
  reason = undefined;
  onabort = null;
  #listeners = [];
  static abort(reason) {
    const controller = new AbortController();
    controller.abort(reason);
    return controller.signal;
  }
  static timeout(milliseconds) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new DOMException("the time is up", "TimeoutError")), milliseconds);
    return controller.signal;
  }
  static fire(signal, reason) {
    if (signal.aborted) return;
    signal.aborted = true;
    signal.reason = reason ?? new DOMException("aborted", "AbortError");
    for (const listener of [signal.onabort, ...signal.#listeners]) listener?.call(signal, { type: "abort", target: signal });
  }
  addEventListener(type, listener) {
    if (type === "abort") this.#listeners.push(listener);
  }
  removeEventListener(type, listener) {
    this.#listeners = this.#listeners.filter((each) => each !== listener);
  }
  throwIfAborted() {
    if (this.aborted) throw this.reason;
  }
}

class AbortController {
  signal = new AbortSignal();
  abort(reason) {
    AbortSignal.fire(this.signal, reason);
  }
}

expose({ Headers, Request, Response, AbortController, AbortSignal });
