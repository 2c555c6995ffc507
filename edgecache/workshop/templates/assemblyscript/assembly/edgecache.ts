// The fast lane of edgecache: a core module with `memory`, `alloc` and `handle`, and the one import it may have.
//
// Nothing is ever freed (`--runtime stub`): the sandbox is gone when the call ends.

/** What `handle` returns to leave everything as it is (204). */
export const UNCHANGED: u64 = 0;

export function alloc(size: i32): usize {
  return heap.alloc(size);
}

/** A request: `METHOD TARGET\nname: value\n...\n\nBODY`. */
export class Request {
  constructor(
    public head: string,
    public body: string,
  ) {}

  static of(at: usize, size: i32): Request {
    const raw = String.UTF8.decodeUnsafe(at, size);
    const end = raw.indexOf("\n\n");
    return end < 0 ? new Request(raw, "") : new Request(raw.substring(0, end), raw.substring(end + 2));
  }

  /** The value of a header, by its name in lower case. */
  header(name: string, otherwise: string): string {
    const lines = this.head.split("\n");
    const start = name + ": ";
    for (let i = 1; i < lines.length; i++) {
      if (lines[i].startsWith(start)) return lines[i].substring(start.length);
    }
    return otherwise;
  }
}

/** What `handle` returns to answer; `headers` are lines, each with its end. */
export function answer(status: i32, headers: string, body: string): u64 {
  return packed(String.UTF8.encode(status.toString() + "\n" + headers + "\n" + body));
}

/** `text` as it stands inside a JSON string. */
export function escaped(text: string): string {
  let made = "";
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x20) made += "\\u00" + (c < 16 ? "0" : "") + c.toString(16);
    else if (c == 0x22 || c == 0x5c) made += "\\" + text.charAt(i);
    else made += text.charAt(i);
  }
  return made;
}

function packed(made: ArrayBuffer): u64 {
  return ((changetype<usize>(made) as u64) << 32) | (made.byteLength as u64);
}

@external("edgecache", "call")
declare function hostCall(op: usize, opSize: i32, argument: usize, size: i32): u64;

/** The answer to operation `op`: `=` and netstrings, or `!code\nmessage`. */
export function call(op: string, fields: string[]): string {
  let argument = "";
  for (let i = 0; i < fields.length; i++) {
    argument += String.UTF8.byteLength(fields[i]).toString() + ":" + fields[i] + ",";
  }
  const name = String.UTF8.encode(op);
  const raw = String.UTF8.encode(argument);
  const result = hostCall(changetype<usize>(name), name.byteLength, changetype<usize>(raw), raw.byteLength);
  return String.UTF8.decodeUnsafe((result >> 32) as usize, (result & 0xffffffff) as i32);
}

/** A line in the log that `edgecache fn tail` shows. */
export function log(level: string, line: string): void {
  call("log", [level, line]);
}
