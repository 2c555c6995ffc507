// A function that does what its request says: the header `x-say-PHASE` is its answer in that phase, 204 without one.
//
// In the text of the answer `~` is a line break (the blank line after the head may be left out), and after `%` stands
//   B  the body of the request            U  the value of x-user
//   R  the body, NAME replaced by x-user  S  the value of x-edgecache-status
//   C  the number of the event            G  nothing, but a log line is written
//   L  an endless loop                    T  a trap
#define EXPORT(name) __attribute__((export_name(#name)))
__attribute__((import_module("edgecache"), import_name("call"))) long long host_call(
    const char *op, int op_length, const char *argument, int length);

extern char __heap_base;
static unsigned long top;

EXPORT(alloc) char *alloc(int size) {
  if (!top) top = (unsigned long)&__heap_base;
  char *at = (char *)top;
  top = (top + size + 15) & ~15ul;
  long missing = (long)top - (long)(__builtin_wasm_memory_size(0) * 65536);
  if (missing > 0 && __builtin_wasm_memory_grow(0, (missing + 65535) / 65536) == (unsigned long)-1) __builtin_trap();
  return at;
}

static int same(const char *a, const char *b, int length) {
  for (int i = 0; i < length; i++)
    if (a[i] != b[i]) return 0;
  return 1;
}

static int length_of(const char *text) {
  int n = 0;
  while (text[n]) n++;
  return n;
}

typedef struct {
  const char *at;
  int length;
} Text;

// The value of a header; at = 0 without one.
static Text header(Text head, const char *name, Text more) {
  int plain = length_of(name);
  const char *line = head.at, *end = head.at + head.length;
  while (line < end) {
    const char *stop = line;
    while (stop < end && *stop != '\n') stop++;
    int whole = plain + more.length;
    if (stop - line > whole + 1 && same(line, name, plain) && same(line + plain, more.at, more.length) && line[whole] == ':')
      return (Text){line + whole + 2, (int)(stop - line) - whole - 2};
    line = stop + 1;
  }
  return (Text){0, 0};
}

static char *put(char *out, Text text) {
  for (int i = 0; i < text.length; i++) *out++ = text.at[i];
  return out;
}

static char *put_named(char *out, Text body, Text user) {
  for (int i = 0; i < body.length; i++) {
    if (i + 4 <= body.length && same(body.at + i, "NAME", 4)) {
      out = put(out, user);
      i += 3;
    } else {
      *out++ = body.at[i];
    }
  }
  return out;
}

EXPORT(handle) unsigned long long handle(const char *message, int length) {
  Text none = {"", 0}, head = {message, 0}, body = none;
  for (int i = 0; i + 1 < length; i++)
    if (message[i] == '\n' && message[i + 1] == '\n') {
      head.length = i + 1;
      body = (Text){message + i + 2, length - i - 2};
      break;
    }
  Text say = header(head, "x-say-", header(head, "x-edgecache-phase", none));
  if (!say.at) return 0;
  Text user = header(head, "x-user", none);
  int blank = 0;
  char *start = alloc(say.length + 4 * body.length * (1 + user.length) + 4096), *out = start;
  for (int i = 0; i < say.length; i++) {
    char c = say.at[i];
    if (c == '~') {
      blank = blank || (out > start && out[-1] == '\n');
      *out++ = '\n';
    } else if (c != '%') {
      *out++ = c;
    } else {
      switch (say.at[++i]) {
        case 'B': out = put(out, body); break;
        case 'R': out = put_named(out, body, user); break;
        case 'U': out = put(out, user); break;
        case 'S': out = put(out, header(head, "x-edgecache-status", none)); break;
        case 'C': out = put(out, header(head, "x-edgecache-chunk", none)); break;
        case 'G': host_call("log", 3, "4:info,5:hello,", 15); break;
        case 'L': for (volatile int forever = 1; forever;) {} break;
        default: __builtin_trap();
      }
    }
  }
  if (!blank) out = put(out, (Text){"\n\n", 2});
  return (unsigned long long)(unsigned long)start << 32 | (unsigned long)(out - start);
}
