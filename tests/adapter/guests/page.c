// The work that functions are measured by: a cached answer of 1 KB, with the user's name in it and no personal data.
#include "wasi.h"

static Result r;

static Text user_of(u32 headers) {
    fields_get(headers, "x-user", 6, &r);
    if (!r.words[1]) return TEXT("friend");
    return *(Text *)(uintptr_t)r.words[0];
}

static Text body_of(u32 request) {
    request_consume(request, &r);
    body_stream(r.words[1], &r);
    input_blocking_read(r.words[1], 65536, &r);
    return r.bytes[0] ? (Text){"", 0} : (Text){(char *)(uintptr_t)r.words[1], r.words[2]};
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_word(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-' ||
           c == '+' || c == '@';
}

static char *put(char *to, Text text) {
    for (u32 i = 0; i < text.size; i++) *to++ = text.data[i];
    return to;
}

// One word, or what stands for it.
static char *put_word(char *to, Text word) {
    u32 digits = 0;
    for (u32 i = 0; i < word.size; i++) {
        if (word.data[i] == '@') return put(to, TEXT("[email]"));
        digits += is_digit(word.data[i]);
    }
    return put(to, digits >= 9 ? TEXT("[number]") : word);
}

static Text personalised(Text text, Text user) {
    char *start = cabi_realloc(0, 0, 1, (8 + user.size) * text.size + 1), *to = start;
    for (u32 i = 0; i < text.size;) {
        if (text.size - i >= 8 && same((Text){text.data + i, 8}, TEXT("{{name}}"))) {
            to = put(to, user);
            i += 8;
            continue;
        }
        u32 end = i;
        while (end < text.size && is_word(text.data[end])) end++;
        to = end > i ? put_word(to, (Text){text.data + i, end - i}) : put(to, (Text){text.data + i, 1});
        i = end > i ? end : i + 1;
    }
    return (Text){start, to - start};
}

__attribute__((export_name("cm32p2|wasi:http/incoming-handler@0.2|handle"))) void handle(u32 request, u32 outparam) {
    static const Header headers[] = {{{"content-type", 12}, {"text/plain", 10}}};
    Text user = user_of(request_headers(request)), text = personalised(body_of(request), user);
    fields_from_list(headers, 1, &r);
    u32 response = response_new(r.words[1]);
    response_body(response, &r);
    u32 body = r.words[1];
    outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
    outgoing_body_write(body, &r);
    u32 stream = r.words[1];
    output_write(stream, text.data, text.size, &r);
    output_drop(stream);
    outgoing_body_finish(body, 0, 0, &r);
}
