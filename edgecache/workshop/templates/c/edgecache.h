/* The fast lane of edgecache in one header: a core module with `memory`, `alloc` and `handle`. No libc needed.
 *
 * You write `void ec_handle(ec_text request)`, look at the request with ec_header and ec_body, and write
 * an answer with ec_write: `STATUS\nname: value\n...\n\nBODY`. Writing nothing means 204, "leave it as it is".
 * Memory is never freed: the sandbox is gone when the call ends. */
#ifndef EDGECACHE_H
#define EDGECACHE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  const char *at;
  uint32_t size;
} ec_text;

#define EC_TEXT(literal) ((ec_text){(literal), sizeof(literal) - 1})

void ec_handle(ec_text request);

/* ---- memory ------------------------------------------------------------------------------------------------- */
extern uint8_t __heap_base;
static uint8_t *ec_top;

/* n bytes, aligned to 16; traps where the memory limit is reached. */
__attribute__((export_name("alloc"))) void *ec_alloc(uint32_t n) {
  uintptr_t start = ((uintptr_t)(ec_top ? ec_top : &__heap_base) + 15) & ~(uintptr_t)15, end = start + n;
  uintptr_t there = (uintptr_t)__builtin_wasm_memory_size(0) << 16;
  if (end < start) __builtin_trap();
  if (end > there && __builtin_wasm_memory_grow(0, (end - there + 65535) >> 16) == (size_t)-1) __builtin_trap();
  ec_top = (uint8_t *)end;
  return (void *)start;
}

/* ---- text --------------------------------------------------------------------------------------------------- */
static inline int ec_same(ec_text a, ec_text b) {
  if (a.size != b.size) return 0;
  for (uint32_t i = 0; i < a.size; i++)
    if (a.at[i] != b.at[i]) return 0;
  return 1;
}

/* Where `what` begins in `text` at `from` or later; text.size where it does not. */
static inline uint32_t ec_find(ec_text text, ec_text what, uint32_t from) {
  for (uint32_t i = from; what.size <= text.size && i <= text.size - what.size; i++)
    if (text.at[i] == what.at[0] && ec_same((ec_text){text.at + i, what.size}, what)) return i;
  return text.size;
}

/* ---- the request -------------------------------------------------------------------------------------------- */
static inline ec_text ec_body(ec_text request) {
  uint32_t end = ec_find(request, EC_TEXT("\n\n"), 0);
  if (end == request.size) return (ec_text){request.at + request.size, 0};
  return (ec_text){request.at + end + 2, request.size - end - 2};
}

/* The value of header `name` (in lower case), or `otherwise`. */
static inline ec_text ec_header(ec_text request, ec_text name, ec_text otherwise) {
  uint32_t end = ec_find(request, EC_TEXT("\n\n"), 0);
  for (uint32_t line = ec_find(request, EC_TEXT("\n"), 0) + 1; line < end;) {
    ec_text rest = {request.at + line, end - line};
    uint32_t size = ec_find(rest, EC_TEXT("\n"), 0);
    if (size >= name.size + 2 && ec_same((ec_text){rest.at, name.size}, name) && rest.at[name.size] == ':')
      return (ec_text){rest.at + name.size + 2, size - name.size - 2};
    line += size + 1;
  }
  return otherwise;
}

/* ---- the answer --------------------------------------------------------------------------------------------- */
static char *ec_answer;
static uint32_t ec_answer_size, ec_answer_room;

static void ec_write(ec_text text) {
  if (ec_answer_size + text.size > ec_answer_room) {
    uint32_t room = 2 * (ec_answer_size + text.size) + 1024;
    char *more = ec_alloc(room);
    if (ec_answer_size > 0) __builtin_memcpy(more, ec_answer, ec_answer_size);
    ec_answer = more;
    ec_answer_room = room;
  }
  __builtin_memcpy(ec_answer + ec_answer_size, text.at, text.size);
  ec_answer_size += text.size;
}

/* Take back what was written: 204, "leave it as it is". */
static inline void ec_unchanged(void) { ec_answer_size = 0; }

/* `text` as it stands inside a JSON string. */
static inline void ec_write_json(ec_text text) {
  static const char hex[] = "0123456789abcdef";
  for (uint32_t i = 0; i < text.size; i++) {
    unsigned char c = text.at[i];
    if (c < 0x20)
      ec_write((ec_text){(char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6});
    else if (c == '"' || c == '\\')
      ec_write((ec_text){(char[]){'\\', c}, 2});
    else
      ec_write((ec_text){text.at + i, 1});
  }
}

__attribute__((export_name("handle"))) uint64_t ec_entry(const char *at, uint32_t size) {
  ec_handle((ec_text){at, size});
  return ec_answer_size ? (uint64_t)(uintptr_t)ec_answer << 32 | ec_answer_size : 0;
}

/* ---- the host ----------------------------------------------------------------------------------------------- */
__attribute__((import_module("edgecache"), import_name("call"))) uint64_t ec_host_call(
    const char *op, uint32_t op_size, const char *argument, uint32_t size);

/* The answer to operation `op`: `=` and netstrings, or `!code\nmessage`. */
static inline ec_text ec_call(ec_text op, ec_text argument) {
  uint64_t answer = ec_host_call(op.at, op.size, argument.at, argument.size);
  return (ec_text){(const char *)(uintptr_t)(answer >> 32), (uint32_t)answer};
}

/* Add `field` to a packed argument at `to`, which has room for 12 bytes more than the field; where the next one goes. */
static inline char *ec_pack(char *to, ec_text field) {
  char digits[10];
  int count = 0;
  for (uint32_t rest = field.size; count == 0 || rest > 0; rest /= 10) digits[count++] = (char)('0' + rest % 10);
  while (count > 0) *to++ = digits[--count];
  *to++ = ':';
  __builtin_memcpy(to, field.at, field.size);
  to += field.size;
  *to++ = ',';
  return to;
}

/* A line in the log that `edgecache fn tail` shows. */
static inline void ec_log(ec_text level, ec_text line) {
  char *argument = ec_alloc(level.size + line.size + 24);
  char *end = ec_pack(ec_pack(argument, level), line);
  ec_call(EC_TEXT("log"), (ec_text){argument, (uint32_t)(end - argument)});
}

#endif
