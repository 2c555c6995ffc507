#include "hostcall.h"

#include "heap.h"
#include "text.h"

IMPORT("cm32p2|edgecache:adapter/host@0.1", "call")
void host_call(const u8 *op, u32 op_size, const u8 *argument, u32 argument_size, Bytes *result);

static void extend(Message *message, Bytes text, u32 size) {
    message->data = heap_extend(message->data, message->size, size);
    put_latin1(message->data + message->size, text);
    message->size += size;
}

void message_add(Message *message, Bytes field) {
    u8 head[11], *start = head + sizeof head;
    u32 length = field.size;
    *--start = ':';
    do *--start = '0' + length % 10;
    while (length /= 10);
    extend(message, (Bytes){start, head + sizeof head - start}, head + sizeof head - start);
    extend(message, field, latin1_size(field));
    extend(message, LITERAL(","), 1);
}

void message_number(Message *message, u64 number) {
    u8 digits[20], *start = digits + sizeof digits;
    do *--start = '0' + number % 10;
    while (number /= 10);
    message_add(message, (Bytes){start, digits + sizeof digits - start});
}

Answer ask(Bytes op, Message argument) {
    Bytes raw = {0};
    host_call(op.data, op.size, argument.data, argument.size, &raw);
    raw = from_latin1(raw);
    if (!raw.size || (raw.data[0] != '=' && raw.data[0] != '!')) __builtin_trap();
    Bytes rest = {raw.data + 1, raw.size - 1};
    Answer answer = {.refused = raw.data[0] == '!', .rest = rest, .start = raw.data};
    if (answer.refused) {
        u32 line = 0;
        while (line < rest.size && rest.data[line] != '\n') line++;
        answer.code = (Bytes){rest.data, line};
        if (line < rest.size) answer.text = as_utf8((Bytes){rest.data + line + 1, rest.size - line - 1});
    }
    return answer;
}

bool answer_more(const Answer *answer) { return answer->rest.size > 0; }

Bytes answer_field(Answer *answer) { return netstring(&answer->rest); }

bool refused_as(const Answer *answer, Bytes code) { return same(answer->code, code); }

Bytes netstring(Bytes *packed) {
    u32 position = 0;
    u64 length = 0;
    while (position < packed->size && position < 10 && packed->data[position] != ':')
        length = length * 10 + (packed->data[position++] - '0');
    if (!position || position >= packed->size || packed->data[position] != ':') __builtin_trap();
    u64 end = ++position + length;
    if (end >= packed->size || packed->data[end] != ',') __builtin_trap();
    Bytes field = {packed->data + position, (u32)length};
    *packed = (Bytes){packed->data + end + 1, packed->size - (u32)end - 1};
    return field;
}
