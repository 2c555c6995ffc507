// A game character's stored line, told as the game stands: one answer of the model, many ways to say it.
//
// The model is asked, once, to write its line with marks; the client sends the state of the game in `x-game-*` headers.
//
//   [mood=friendly|merry]Well met![/mood]   kept where `x-game-mood` is one of these, else left out
//   [player]                                 the value of `x-game-player`
//   [any]Aye.|Indeed.|Hm.[/any]              one of them, by `x-game-turn`: the next turn, the next one
//
// A mark that is not closed, that the game says nothing about, or that is none of these, is text and stays.
import { Request, answer, escaped, UNCHANGED } from "./edgecache";
export { alloc } from "./edgecache";

class Told {
  text: string = "";
  marks: i32 = 0;
}

function isName(text: string): bool {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (!((c >= 0x61 && c <= 0x7a) || c == 0x5f)) return false;
  }
  return text.length > 0 && text.length <= 32;
}

function state(request: Request, name: string): string {
  return escaped(request.header("x-game-" + name.replaceAll("_", "-"), ""));
}

/** `line`, the inside of a JSON string, as the game stands. */
function told(line: string, request: Request): Told {
  const made = new Told();
  let at = 0;
  while (at < line.length) {
    const open = line.indexOf("[", at);
    const close = open < 0 ? -1 : line.indexOf("]", open);
    if (close < 0) break;
    made.text += line.substring(at, open);
    at = replaced(line, open, close, request, made);
    if (at == open) {
      made.text += "["; // no mark: text
      at += 1;
    }
  }
  made.text += line.substring(at);
  return made;
}

/** Adds what the mark from `open` to `close` becomes to `made`; where the line goes on, `open` if it is no mark. */
function replaced(line: string, open: i32, close: i32, request: Request, made: Told): i32 {
  const mark = line.substring(open + 1, close);
  const equals = mark.indexOf("=");
  const name = equals < 0 ? mark : mark.substring(0, equals);
  if (!isName(name)) return open;
  if (equals < 0 && mark != "any") {
    const value = state(request, name);
    if (value.length == 0) return open;
    made.text += value;
    made.marks += 1;
    return close + 1;
  }
  const ending = "[/" + name + "]";
  const end = line.indexOf(ending, close + 1);
  if (end < 0) return open;
  let kept = line.substring(close + 1, end);
  if (mark == "any") {
    const ways = kept.split("|");
    kept = ways[turn(request) % ways.length];
  } else if (!mark.substring(equals + 1).split("|").includes(state(request, name))) {
    kept = "";
  }
  const inner = told(kept, request);
  made.text += inner.text;
  made.marks += 1 + inner.marks;
  return end + ending.length;
}

function turn(request: Request): i32 {
  const given = request.header("x-game-turn", "0");
  let number = 0;
  for (let i = 0; i < given.length && i < 9; i++) {
    const c = given.charCodeAt(i);
    if (c < 0x30 || c > 0x39) return 0;
    number = number * 10 + (c - 0x30);
  }
  return number;
}

function stringEnd(body: string, from: i32): i32 {
  let i = from;
  while (i < body.length && body.charCodeAt(i) != 0x22) i += body.charCodeAt(i) == 0x5c ? 2 : 1;
  return min(i, body.length);
}

export function handle(at: usize, size: i32): u64 {
  const request = Request.of(at, size);
  const body = request.body;
  const key = '"content":';
  let made = "";
  let marks = 0;
  let kept = 0;
  for (let i = body.indexOf(key); i >= 0; i = body.indexOf(key, kept)) {
    let start = i + key.length;
    while (start < body.length && body.charCodeAt(start) == 0x20) start++;
    made += body.substring(kept, start);
    kept = start;
    if (start >= body.length || body.charCodeAt(start) != 0x22) continue;
    const end = stringEnd(body, start + 1);
    const line = told(body.substring(start + 1, end), request);
    made += '"' + line.text;
    marks += line.marks;
    kept = end;
  }
  if (marks == 0) return UNCHANGED;
  return answer(200, "content-type: application/json\nx-game-marks: " + marks.toString() + "\n", made + body.substring(kept));
}
