#include "text.h"

#include "heap.h"

static u8 lower(u8 byte) { return byte >= 'A' && byte <= 'Z' ? byte + 32 : byte; }

bool same(Bytes one, Bytes other) {
    if (one.size != other.size) return false;
    for (u32 i = 0; i < one.size; i++)
        if (one.data[i] != other.data[i]) return false;
    return true;
}

bool same_ignoring_case(Bytes one, Bytes other) {
    if (one.size != other.size) return false;
    for (u32 i = 0; i < one.size; i++)
        if (lower(one.data[i]) != lower(other.data[i])) return false;
    return true;
}

void to_lower(Bytes text) {
    for (u32 i = 0; i < text.size; i++) text.data[i] = lower(text.data[i]);
}

static bool is_token_byte(u8 byte) {
    if ((byte >= '0' && byte <= '9') || (lower(byte) >= 'a' && lower(byte) <= 'z')) return true;
    for (const char *mark = "!#$%&'*+-.^_`|~"; *mark; mark++)
        if (byte == *mark) return true;
    return false;
}

bool is_token(Bytes text) {
    for (u32 i = 0; i < text.size; i++)
        if (!is_token_byte(text.data[i])) return false;
    return text.size > 0;
}

bool is_digits(Bytes text) {
    for (u32 i = 0; i < text.size; i++)
        if (text.data[i] < '0' || text.data[i] > '9') return false;
    return text.size > 0;
}

u64 to_number(Bytes digits) {
    u64 number = 0;
    for (u32 i = 0; i < digits.size; i++) number = number * 10 + (digits.data[i] - '0');
    return number;
}

Bytes from_number(u64 number) {
    u8 *end = (u8 *)heap_take(20) + 20, *start = end;
    do *--start = '0' + number % 10;
    while (number /= 10);
    return (Bytes){start, end - start};
}

// Where the first byte over 0x7f is, or the end; eight at a time, for most text has none.
static u32 ascii_run(const u8 *data, u32 from, u32 size) {
    u64 word;
    while (from + 8 <= size) {
        __builtin_memcpy(&word, data + from, 8);
        if (word & 0x8080808080808080u) break;
        from += 8;
    }
    while (from < size && data[from] < 0x80) from++;
    return from;
}

Bytes from_latin1(Bytes text) {
    u32 read = ascii_run(text.data, 0, text.size), written = read;
    while (read < text.size) {
        u8 byte = text.data[read++];
        if (byte >= 0x80) {
            if ((byte & 0xfe) != 0xc2 || read == text.size) __builtin_trap();  // no Latin-1: not from our host
            byte = (u8)(byte << 6 | (text.data[read++] & 0x3f));
        }
        text.data[written++] = byte;
    }
    return (Bytes){text.data, written};
}

u32 latin1_size(Bytes bytes) {
    u32 size = bytes.size;
    for (u32 i = ascii_run(bytes.data, 0, bytes.size); i < bytes.size; i++) size += bytes.data[i] >> 7;
    return size;
}

void put_latin1(u8 *place, Bytes bytes) {
    u32 read = ascii_run(bytes.data, 0, bytes.size);
    if (read) __builtin_memcpy(place, bytes.data, read);
    place += read;
    for (; read < bytes.size; read++) {
        u8 byte = bytes.data[read];
        if (byte >= 0x80) {
            *place++ = 0xc0 | byte >> 6;
            byte = 0x80 | (byte & 0x3f);
        }
        *place++ = byte;
    }
}

Bytes to_latin1(Bytes bytes) {
    u32 size = latin1_size(bytes);
    if (size == bytes.size) return bytes;
    u8 *place = heap_take(size);
    put_latin1(place, bytes);
    return (Bytes){place, size};
}

// The length of the UTF-8 sequence at `data`, or 0 (RFC 3629: shortest form, no surrogates, at most U+10FFFF).
static u32 sequence(const u8 *data, u32 left) {
    u8 first = data[0], second = left > 1 ? data[1] : 0;
    u32 length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (length > left) return 0;
    for (u32 i = 1; i < length; i++)
        if ((data[i] & 0xc0) != 0x80) return 0;
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f)) return 0;
    if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) return 0;
    return length;
}

Bytes as_utf8(Bytes text) {
    for (u32 i = ascii_run(text.data, 0, text.size); i < text.size;) {
        u32 length = sequence(text.data + i, text.size - i);
        if (!length) text.data[i] = '?';
        i += length ? length : 1;
    }
    return text;
}

Bytes as_ascii(Bytes text) {
    u32 more = latin1_size(text) - text.size;  // as many as there are bytes over 0x7f
    if (!more) return text;
    u8 *place = heap_take(text.size + 2 * more), *end = place;
    for (u32 i = 0; i < text.size; i++) {
        u8 byte = text.data[i];
        if (byte < 0x80) {
            *end++ = byte;
        } else {
            *end++ = '%';
            *end++ = "0123456789ABCDEF"[byte >> 4];
            *end++ = "0123456789ABCDEF"[byte & 15];
        }
    }
    return (Bytes){place, end - place};
}
