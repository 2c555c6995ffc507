// A guest that does what its path says and tells what came of it, a line each: `name value`.
#include "wasi.h"

static u32 request, outparam;
static Text path;
static Result r;

// ---- telling

static char *told;
static u32 told_size, told_room;

static void tell(Text text) {
    if (told_size + text.size > told_room) {
        told_room = 2 * (told_size + text.size) + 1024;
        char *larger = cabi_realloc(0, 0, 1, told_room);
        if (told_size) __builtin_memcpy(larger, told, told_size);
        told = larger;
    }
    if (text.size) __builtin_memcpy(told + told_size, text.data, text.size);
    told_size += text.size;
}

static void tell_number(s64 number) {
    char digits[21], *start = digits + sizeof digits;
    u64 rest = number < 0 ? 0 - (u64)number : (u64)number;
    do *--start = '0' + rest % 10;
    while (rest /= 10);
    if (number < 0) *--start = '-';
    tell((Text){start, digits + sizeof digits - start});
}

#define LINE(name, text) (tell(TEXT(name " ")), tell(text), tell(TEXT("\n")))
#define NUMBER(name, number) (tell(TEXT(name " ")), tell_number((s64)(number)), tell(TEXT("\n")))

// ---- requests and responses

static Text read_all(u32 stream) {
    char *start = 0;
    u32 size = 0, room = 0;
    for (;;) {
        input_blocking_read(stream, 65536, &r);
        if (r.bytes[0]) return (Text){start, size};
        Text part = {(char *)(uintptr_t)r.words[1], r.words[2]};
        if (size + part.size > room) {
            room = 2 * (size + part.size);
            char *larger = cabi_realloc(0, 0, 1, room);
            if (size) __builtin_memcpy(larger, start, size);
            start = larger;
        }
        __builtin_memcpy(start + size, part.data, part.size);
        size += part.size;
    }
}

static u32 request_stream(void) {
    request_consume(request, &r);
    body_stream(r.words[1], &r);
    return r.words[1];
}

static u32 headers_of(const Header *headers, u32 count) {
    fields_from_list(headers, count, &r);
    return r.words[1];
}

static u32 plain(void) {
    static const Header headers[] = {{TEXT("content-type"), TEXT("text/plain")}};
    return headers_of(headers, 1);
}

static void write_all(u32 stream, Text text) {
    for (u32 done = 0; done < text.size; done += 4096) {
        u32 size = text.size - done < 4096 ? text.size - done : 4096;
        output_blocking_write(stream, text.data + done, size, &r);
    }
}

static void set(u32 response) { outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0); }

static void answer(u32 status, u32 headers, Text text) {
    u32 response = response_new(headers);
    response_set_status(response, status);
    response_body(response, &r);
    u32 out = r.words[1];
    set(response);
    outgoing_body_write(out, &r);
    u32 stream = r.words[1];
    write_all(stream, text);
    output_drop(stream);
    outgoing_body_finish(out, 0, 0, &r);
}

// ---- what a path does

static void echo(void) {
    Text all = read_all(request_stream());
    fields_entries(request_headers(request), &r);
    Text list = {(char *)(uintptr_t)r.words[0], r.words[1]};
    answer(200, headers_of((const Header *)list.data, list.size), all);
}

static void describe(void) {
    request_method(request, &r);
    NUMBER("method", r.bytes[0]);
    if (r.bytes[0] == 9) LINE("other", ((Text){(char *)(uintptr_t)r.words[1], r.words[2]}));
    LINE("path", path);
    request_scheme(request, &r);
    NUMBER("scheme", r.bytes[4]);
    request_authority(request, &r);
    LINE("authority", ((Text){(char *)(uintptr_t)r.words[1], r.words[2]}));
    fields_entries(request_headers(request), &r);
    Header *headers = (Header *)(uintptr_t)r.words[0];
    for (u32 i = 0, count = r.words[1]; i < count; i++) {
        tell(TEXT("header ")), tell(headers[i].name), tell(TEXT(" ")), tell(headers[i].value), tell(TEXT("\n"));
    }
}

static void fields(void) {
    static const Text two[] = {{"one", 3}, {"two", 3}};
    u32 made = fields_new();
#define OUTCOME(name) NUMBER(name, r.bytes[0] ? r.bytes[1] : -1)
    fields_append(made, "X-One", 5, "1", 1, &r), OUTCOME("append");
    fields_append(made, "bad name", 8, "1", 1, &r), OUTCOME("append-bad-name");
    fields_append(made, "x", 1, "a\nb", 3, &r), OUTCOME("append-bad-value");
    fields_append(made, "Host", 4, "h", 1, &r), OUTCOME("append-forbidden");
    fields_append(made, "Transfer-Encoding", 17, "chunked", 7, &r), OUTCOME("append-transfer-encoding");
    fields_set(made, "x-two", 5, two, 2, &r), OUTCOME("set");
    fields_set(made, "", 0, two, 2, &r), OUTCOME("set-no-name");
    fields_set(made, "upgrade", 7, two, 1, &r), OUTCOME("set-forbidden");
    fields_get(made, "X-TWO", 5, &r), NUMBER("get", r.words[1]);
    fields_get(made, "absent", 6, &r), NUMBER("get-absent", r.words[1]);
    NUMBER("has", fields_has(made, "X-ONE", 5));
    NUMBER("has-absent", fields_has(made, "absent", 6));
    fields_delete(made, "X-one", 5, &r), OUTCOME("delete");
    NUMBER("has-deleted", fields_has(made, "x-one", 5));
    u32 shown = request_headers(request);
    fields_append(shown, "x", 1, "1", 1, &r), OUTCOME("append-immutable");
    fields_set(shown, "x", 1, two, 1, &r), OUTCOME("set-immutable");
    fields_delete(shown, "x", 1, &r), OUTCOME("delete-immutable");
    u32 clone = fields_clone(shown);
    fields_append(clone, "x-clone", 7, "1", 1, &r), OUTCOME("append-clone");
    NUMBER("original-has", fields_has(shown, "x-clone", 7));
    u32 response = response_new(made);
    u32 child = response_headers(response);
    fields_append(child, "x", 1, "1", 1, &r), OUTCOME("append-child");
    static const Header bad[] = {{{"connection", 10}, {"close", 5}}};
    fields_from_list(bad, 1, &r), NUMBER("from-list-forbidden", r.bytes[0] ? r.bytes[4] : -1);
}

static void once(void) {
    request_consume(request, &r), NUMBER("consume", r.bytes[0]);
    u32 in = r.words[1];
    request_consume(request, &r), NUMBER("consume-again", r.bytes[0]);
    body_stream(in, &r), NUMBER("stream", r.bytes[0]);
    u32 stream = r.words[1];
    body_stream(in, &r), NUMBER("stream-again", r.bytes[0]);
    input_skip(stream, 3, &r), NUMBER("skipped", r.longs[1]);
    input_read(stream, 2, &r), NUMBER("read", r.words[2]);
    read_all(stream);
    input_read(stream, 2, &r), NUMBER("read-closed", r.bytes[0] ? r.bytes[4] : -1);
    input_skip(stream, 2, &r), NUMBER("skip-closed", r.bytes[0] ? r.bytes[8] : -1);
    u32 trailers = body_finish(in);
    trailers_get(trailers, &r), NUMBER("trailers", r.bytes[0] == 1 && !r.bytes[8] && !r.bytes[16] && !r.bytes[24]);
    trailers_get(trailers, &r), NUMBER("trailers-again", r.bytes[8]);

    u32 response = response_new(plain());
    NUMBER("status", response_status(response));
    NUMBER("set-status", response_set_status(response, 404));
    NUMBER("set-bad-status", response_set_status(response, 42));
    NUMBER("status-now", response_status(response));
    response_body(response, &r), NUMBER("body", r.bytes[0]);
    u32 out = r.words[1];
    response_body(response, &r), NUMBER("body-again", r.bytes[0]);
    outgoing_body_write(out, &r), NUMBER("write", r.bytes[0]);
    stream = r.words[1];
    outgoing_body_write(out, &r), NUMBER("write-again", r.bytes[0]);
    output_check_write(stream, &r), NUMBER("budget", r.longs[1]);
    output_write_zeroes(stream, 4, &r), NUMBER("zeroes", r.bytes[0]);
    outgoing_body_finish(out, 0, 0, &r), NUMBER("finish", r.bytes[0]);
    output_check_write(stream, &r), NUMBER("check-finished", r.bytes[0] ? r.bytes[8] : -1);
    output_write(stream, "x", 1, &r), NUMBER("write-finished", r.bytes[0] ? r.bytes[4] : -1);
    output_flush(stream, &r), NUMBER("flush-finished", r.bytes[0] ? r.bytes[4] : -1);
    send_informational(outparam, 103, fields_new(), &r), NUMBER("informational", r.bytes[0] ? r.bytes[8] : -1);
}

// The body is a length and the text: 5 for "hello" is right.
static void promised(void) {
    Text all = read_all(request_stream());
    Header headers[] = {{TEXT("content-length"), {all.data, 1}}};
    u32 response = response_new(headers_of(headers, 1));
    response_body(response, &r);
    u32 out = r.words[1];
    set(response);
    outgoing_body_write(out, &r);
    write_all(r.words[1], (Text){all.data + 1, all.size - 1});
    outgoing_body_finish(out, 0, 0, &r);
    if (r.bytes[0]) output_write(get_stdout(), r.bytes[8] == 28 && r.longs[3] == all.size - 1 ? "size\n" : "else\n", 5, &r);
}

static void unfinished(bool dropped) {
    u32 response = response_new(plain());
    response_body(response, &r);
    u32 out = r.words[1];
    set(response);
    outgoing_body_write(out, &r);
    write_all(r.words[1], TEXT("half an"));
    if (dropped) outgoing_body_drop(out);
}

// Reads, answers at once, part by part.
static void stream(void) {
    u32 in = request_stream(), response = response_new(plain());
    response_body(response, &r);
    u32 out = r.words[1];
    outgoing_body_write(out, &r);
    u32 stream = r.words[1];
    write_all(stream, TEXT("before;"));  // nobody knows the head yet
    set(response);
    for (;;) {
        input_blocking_read(in, 65536, &r);
        if (r.bytes[0]) break;
        Text part = {(char *)(uintptr_t)r.words[1], r.words[2]};
        heap_top = 0;  // this guest keeps nothing
        output_write(stream, part.data, part.size, &r);
        if (r.bytes[0]) {
            error_text(r.words[2], &r);
            Text reason = {(char *)(uintptr_t)r.words[0], r.words[1]};
            output_write(get_stderr(), reason.data, reason.size, &r);
            return;
        }
    }
    outgoing_body_finish(out, 0, 0, &r);
}

static void splice(void) {
    u32 in = request_stream(), response = response_new(plain());
    response_body(response, &r);
    u32 out = r.words[1];
    set(response);
    outgoing_body_write(out, &r);
    u32 stream = r.words[1];
    do output_splice(stream, in, 1000, &r);
    while (!r.bytes[0]);
    outgoing_body_finish(out, 0, 0, &r);
}

static void print(void) {
    u32 out = get_stdout(), err = get_stderr();
    write_all(out, TEXT("one"));
    write_all(out, TEXT(" line\nand two\nrest"));
    write_all(err, TEXT("bad\n"));
    write_all(err, TEXT("worse"));
    NUMBER("budget", (output_check_write(out, &r), r.longs[1]));
    NUMBER("terminal", (get_terminal_stdout(&r), r.bytes[0]));
    NUMBER("stdin", (input_read(get_stdin(), 1, &r), r.bytes[0]));
    NUMBER("environment", (get_environment(&r), r.words[1]));
    NUMBER("arguments", (get_arguments(&r), r.words[1]));
    NUMBER("cwd", (initial_cwd(&r), r.bytes[0]));
}

static void print_long(void) {
    static char block[4096];
    for (u32 i = 0; i < sizeof block; i++) block[i] = 'x';
    for (u32 i = 0; i < 3; i++) output_write(get_stdout(), block, 3000, &r);
}

static void clocks(void) {
    u64 first = monotonic_now();
    NUMBER("first", first);
    NUMBER("step", monotonic_now() - first);
    wall_now(&r), NUMBER("seconds", r.longs[0]), NUMBER("nanoseconds", r.words[2]);
    u32 timers[] = {subscribe_duration(3000000000u), subscribe_duration(1000000000u)};
    NUMBER("ready", pollable_ready(timers[1]));
    poll_all(timers, 2, &r);
    u32 *ready = (u32 *)(uintptr_t)r.words[0];
    NUMBER("woken", r.words[1]), NUMBER("which", ready[0]);
    NUMBER("ready-now", pollable_ready(timers[1]));
    NUMBER("slept", (monotonic_now() - first) / 1000000000);
    pollable_block(timers[0]);
    NUMBER("slept-more", (monotonic_now() - first) / 1000000000);
    pollable_block(subscribe_instant(UINT64_MAX));
    wall_now(&r), NUMBER("seconds-then", r.longs[0]);
    timezone_display(0, 0, &r), LINE("zone", ((Text){(char *)(uintptr_t)r.words[1], r.words[2]}));
}

static void randomness(void) {
    random_bytes(100, &r);
    tell((Text){(char *)(uintptr_t)r.words[0], r.words[1]});
    u64 numbers[] = {random_u64(), insecure_u64(), (insecure_seed(&r), r.longs[0]), r.longs[1]};
    tell((Text){(char *)numbers, sizeof numbers});
}

// Large answers that are not kept must not pile up in the adapter.
static void grow(void) {
    u32 total = 0;
    for (u32 i = 0; i < 64; i++) {
        heap_top = 0;
        random_bytes(1 << 20, &r);
        total += r.words[1];
    }
    heap_top = 0;
    NUMBER("total", total);
}

static Text string_at(u32 word) { return (Text){(char *)(uintptr_t)r.words[word], r.words[word + 1]}; }

// A `result` whose error is a variant at 4 with a string.
static void tell_result(void) {
    tell(r.bytes[0] ? TEXT("error ") : TEXT("ok "));
    if (r.bytes[0]) tell_number(r.bytes[4]), tell(TEXT(" ")), tell(string_at(2));
}

// What the next result does not set shows as nothing.
static void clear(void) { __builtin_memset(&r, 0, sizeof r); }

static void tell_end(void) { tell(TEXT("\n")), clear(); }

static void tell_value(void) {
    tell_result();
    if (!r.bytes[0]) tell(r.bytes[4] ? string_at(2) : TEXT("(none)"));
    tell_end();
}

static void tell_done(void) { tell_result(), tell_end(); }

static void tell_flag(void) {
    tell_result();
    if (!r.bytes[0]) tell_number(r.bytes[4]);
    tell_end();
}

static void tell_list(void) {
    tell_result();
    Text *list = (Text *)(uintptr_t)r.words[1];
    if (!r.bytes[0])
        for (u32 i = 0, count = r.words[2]; i < count; i++) tell(list[i]), tell(TEXT(","));
    tell_end();
}

static void spin_store(void) {
    static const char value[] = {0, (char)0xff, 'v', '\n'};
    store_open("denied", 6, &r), tell_done();
    store_open("nowhere", 7, &r), tell_done();
    store_open("broken", 6, &r), tell_done();
    store_open("mine", 4, &r);
    u32 store = r.words[1];
    store_get(store, "k", 1, &r), tell_value();
    store_exists(store, "k", 1, &r), tell_flag();
    store_set(store, "k", 1, value, sizeof value, &r), tell_done();
    store_get(store, "k", 1, &r), tell_value();
    store_exists(store, "k", 1, &r), tell_flag();
    store_set(store, "caf\xc3\xa9", 5, "", 0, &r), tell_done();
    store_get(store, "caf\xc3\xa9", 5, &r), tell_value();
    store_keys(store, &r), tell_list();
    store_delete(store, "k", 1, &r), tell_done();
    store_get(store, "k", 1, &r), tell_value();
    store_set(store, "huge", 4, "x", 1, &r), tell_done();
}

static void wasi_store(void) {
    bucket_open("denied", 6, &r), tell_done();
    bucket_open("nowhere", 7, &r), tell_done();
    bucket_open("mine", 4, &r);
    u32 bucket = r.words[1];
    increment(bucket, "n", 1, 5, &r), NUMBER("increment", r.longs[1]);
    increment(bucket, "n", 1, -12, &r), NUMBER("increment", r.longs[1]);
    increment(bucket, "bad", 3, 1, &r), NUMBER("increment-error", r.bytes[0] ? r.bytes[8] : -1);
    cas_new(bucket, "c", 1, &r);
    u32 first = r.words[1];
    cas_current(first, &r), tell_value();
    cas_new(bucket, "c", 1, &r);
    u32 second = r.words[1];
    cas_swap(first, "one", 3, &r), NUMBER("swap", r.bytes[0]);
    cas_swap(second, "two", 3, &r), NUMBER("swap-late", r.bytes[0]), NUMBER("case", r.bytes[4]);
    u32 third = r.words[2];
    cas_current(third, &r), tell_value();
    cas_swap(third, "three", 5, &r), NUMBER("swap-again", r.bytes[0]);
    bucket_get(bucket, "c", 1, &r), tell_value();
    static const Header pairs[] = {{{"a", 1}, {"1", 1}}, {{"b", 1}, {"2", 1}}};
    static const Text keys[] = {{"a", 1}, {"x", 1}, {"b", 1}};
    set_many(bucket, pairs, 2, &r), tell_done();
    get_many(bucket, keys, 3, &r);
    u32 *found = (u32 *)(uintptr_t)r.words[1];
    for (u32 i = 0, count = r.words[2]; i < count; i++, found += 5) {
        tell((Text){(char *)(uintptr_t)found[0], found[1]}), tell(TEXT("="));
        tell(found[2] ? (Text){(char *)(uintptr_t)found[3], found[4]} : TEXT("(none)")), tell(TEXT("\n"));
    }
    delete_many(bucket, keys, 1, &r), tell_done();
    bucket_exists(bucket, "a", 1, &r), tell_flag();
    bucket_set(bucket, "d", 1, "4", 1, &r), tell_done();
    bucket_delete(bucket, "d", 1, &r), tell_done();
    bucket_keys(bucket, 0, 0, 0, &r);
    NUMBER("cursor", r.bytes[12]), tell_list();
}

static void variables(void) {
    static const Text names[] = {{"greeting", 8}, {"absent", 6}, {"forbidden", 9}, {"BAD", 3}, {"slow", 4}};
    for (u32 i = 0; i < 5; i++) {
        variable_get(names[i].data, names[i].size, &r), tell_result();
        if (!r.bytes[0]) tell(string_at(1));
        tell_end();
    }
    for (u32 i = 0; i < 5; i++) config_get(names[i].data, names[i].size, &r), tell_value();
    config_get_all(&r), tell_done();
}

static float as_float(u32 bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

static void llm(void) {
    static const Text texts[] = {{"one", 3}, {"t\xc3\xb6o", 4}};
    llm_infer("llama", 5, "Say h\xc3\xa9!", 8, 0, 0, 0, 0, 0, 0, 0, &r);
    LINE("text", string_at(1)), NUMBER("prompt", r.words[3]), NUMBER("made", r.words[4]);
    llm_infer("llama", 5, "Say hi", 6, 1, 7, 1.5f, 9, 0, 11, 0.25f, &r), NUMBER("made", r.words[4]);
    llm_infer("llama", 5, "", 0, 1, 7, 1.5f, 9, 1e30f, 11, 0.25f, &r), tell_done();
    llm_infer("absent", 6, "", 0, 0, 0, 0, 0, 0, 0, 0, &r), tell_done();
    llm_infer("denied", 6, "", 0, 0, 0, 0, 0, 0, 0, 0, &r), tell_done();
    llm_infer("slow", 4, "", 0, 0, 0, 0, 0, 0, 0, 0, &r), tell_done();
    llm_embed("mini", 4, texts, 2, &r);
    Text *vectors = (Text *)(uintptr_t)r.words[1];
    NUMBER("vectors", r.words[2]), NUMBER("tokens", r.words[3]);
    for (u32 i = 0; i < 2; i++)
        for (u32 j = 0; j < vectors[i].size; j++) NUMBER("x1000", as_float(((u32 *)vectors[i].data)[j]) * 1000);
    clear(), llm_embed("absent", 6, texts, 1, &r), tell_done();
    llm_embed("short", 5, texts, 2, &r), tell_done();
}

static void lookup(void) {
    cache_lookup("m", 1, "known?", 6, &r);
    NUMBER("found", r.bytes[4]), LINE("answer", string_at(2)), LINE("entry", string_at(5));
    NUMBER("x1000", as_float(r.words[4]) * 1000);
    cache_lookup("m", 1, "new?", 4, &r), NUMBER("found", r.bytes[4]);
    cache_lookup("denied", 6, "known?", 6, &r), NUMBER("error", r.bytes[0] ? r.bytes[4] : -1);
    cache_lookup("slow", 4, "known?", 6, &r), tell_done();
}

static void refusals(void) {
    get_directories(&r), NUMBER("directories", r.words[1]);
    create_tcp_socket(0, &r), NUMBER("tcp", r.bytes[0] ? r.bytes[4] : -1);
    create_udp_socket(1, &r), NUMBER("udp", r.bytes[0] ? r.bytes[4] : -1);
    resolve_addresses(instance_network(), "localhost", 9, &r), NUMBER("resolve", r.bytes[0] ? r.bytes[4] : -1);
    sqlite_open("d", 1, &r), NUMBER("sqlite", r.bytes[0] ? r.bytes[4] : -1);
    sqlite3_open("d", 1, &r), NUMBER("sqlite3", r.bytes[0] ? r.bytes[4] : -1);
    postgres_open("p", 1, &r), tell_done();
    postgres3_open("p", 1, &r), tell_done();
    postgres4_open("p", 1, &r), tell_done();
    mysql_open("m", 1, &r), tell_done();
    redis_open("r", 1, &r), tell_done();
    mqtt_open("m", 1, "", 0, "", 0, 30, &r), tell_done();
}

// ---- outgoing requests: `/fetch/AUTHORITY/PATH`, the body is sent on

static u32 outgoing(Text authority, Text target) {
    static const Header headers[] = {{{"X-Asked", 7}, {"y\xe9s", 3}}};
    u32 made = outgoing_request_new(headers_of(headers, 1));
    outgoing_request_set_method(made, 2, 0, 0);
    outgoing_request_set_scheme(made, 1, 0, 0, 0);
    outgoing_request_set_authority(made, 1, authority.data, authority.size);
    outgoing_request_set_path(made, 1, target.data, target.size);
    return made;
}

static void tell_response(u32 future) {
    future_get(future, &r);
    if (r.bytes[16]) {
        NUMBER("error", r.bytes[24]);
        if (r.bytes[24] == 38) LINE("reason", string_at(9));
        return;
    }
    u32 response = r.words[6];
    NUMBER("status", incoming_response_status(response));
    fields_entries(incoming_response_headers(response), &r);
    Header *headers = (Header *)(uintptr_t)r.words[0];
    for (u32 i = 0, count = r.words[1]; i < count; i++) LINE("header", headers[i].name), LINE("value", headers[i].value);
    incoming_response_consume(response, &r);
    body_stream(r.words[1], &r);
    LINE("body", read_all(r.words[1]));
    incoming_response_consume(response, &r), NUMBER("consume-again", r.bytes[0]);
    future_get(future, &r), NUMBER("get-again", r.bytes[8]);
}

static void fetch(void) {
    Text rest = {path.data + 7, path.size - 7}, authority = rest;
    while (rest.size && rest.data[0] != '/') rest.data++, rest.size--;
    authority.size -= rest.size;
    Text all = read_all(request_stream());
    u32 made = outgoing(authority, rest);
    outgoing_request_body(made, &r);
    u32 out = r.words[1];
    outgoing_body_write(out, &r);
    u32 stream = r.words[1];
    outgoing_handle(made, 0, 0, &r);
    u32 future = r.words[2], pollables[] = {future_subscribe(future), output_subscribe(stream)};
    future_get(future, &r), NUMBER("early", r.bytes[0]);
    poll_all(pollables, 2, &r), NUMBER("woken", ((u32 *)(uintptr_t)r.words[0])[0]);
    write_all(stream, all);
    outgoing_body_finish(out, 0, 0, &r);
    pollable_block(pollables[0]);
    tell_response(future);
}

static void fetch_badly(void) {
    outgoing_handle(outgoing_request_new(fields_new()), 0, 0, &r), NUMBER("no-authority", r.bytes[8]);
    u32 made = outgoing(TEXT("a.test"), TEXT("/"));
    NUMBER("method", outgoing_request_set_method(made, 9, "BAD METHOD", 10));
    NUMBER("path", outgoing_request_set_path(made, 1, "/a b", 4));
    NUMBER("scheme", outgoing_request_set_scheme(made, 1, 2, "a b", 3));
    NUMBER("authority", outgoing_request_set_authority(made, 1, "a\nb", 3));
    NUMBER("own-method", outgoing_request_set_method(made, 9, "PURGE", 5));
    outgoing_request_method(made, &r), LINE("is", string_at(1));
    u32 options = options_new();
    NUMBER("timeout", options_set_connect(options, 1, 1000));
    outgoing_request_body(made, &r);
    u32 out = r.words[1];
    outgoing_request_body(made, &r), NUMBER("body-again", r.bytes[0]);
    outgoing_handle(made, 1, options, &r);
    u32 future = r.words[2];
    outgoing_body_drop(out);
    tell_response(future);
    made = outgoing(TEXT("a.test"), TEXT("/waited-for"));
    outgoing_request_body(made, &r);
    outgoing_handle(made, 0, 0, &r);
    future = r.words[2];
    pollable_block(future_subscribe(future));
    tell_response(future);
}

// ---- those that do not answer as they should

static bool misbehave(void) {
    if (same(path, TEXT("/never"))) return true;
    if (same(path, TEXT("/error"))) return outparam_set(outparam, 1, 8, 0, 0, 0, 0, 0, 0), true;
    if (same(path, TEXT("/unfinished"))) return unfinished(false), true;
    if (same(path, TEXT("/dropped"))) return unfinished(true), true;
    if (same(path, TEXT("/twice"))) return answer(200, plain(), TEXT("a")), answer(200, plain(), TEXT("b")), true;
    if (same(path, TEXT("/trap"))) print(), __builtin_trap();
    if (same(path, TEXT("/exit"))) print(), wasi_exit(0);
    if (same(path, TEXT("/exit-badly"))) wasi_exit(1);
    if (same(path, TEXT("/over-budget"))) output_write(get_stdout(), (char *)64, (1 << 20) + 1, &r);
    if (same(path, TEXT("/over-flush"))) output_blocking_write(get_stdout(), (char *)64, 4097, &r);
    if (same(path, TEXT("/poll-nothing"))) poll_all(0, 0, &r);
    return false;
}

static bool stream_out(void) {
    if (same(path, TEXT("/echo"))) return echo(), true;
    if (same(path, TEXT("/promised"))) return promised(), true;
    if (same(path, TEXT("/stream"))) return stream(), true;
    if (same(path, TEXT("/splice"))) return splice(), true;
    if (same(path, TEXT("/empty"))) return set(response_new(plain())), true;
    return false;
}

__attribute__((export_name("cm32p2|wasi:http/incoming-handler@0.2|handle"))) void handle(u32 in, u32 out) {
    static const struct { Text path; void (*run)(void); } ROUTES[] = {
        {{"/fields", 7}, fields}, {{"/once", 5}, once}, {{"/print", 6}, print}, {{"/print-long", 11}, print_long},
        {{"/clocks", 7}, clocks}, {{"/random", 7}, randomness}, {{"/grow", 5}, grow}, {{"/store", 6}, spin_store},
        {{"/keyvalue", 9}, wasi_store}, {{"/variables", 10}, variables}, {{"/llm", 4}, llm}, {{"/lookup", 7}, lookup},
        {{"/refusals", 9}, refusals}, {{"/fetch-badly", 12}, fetch_badly},
    };
    request = in, outparam = out;
    request_path(request, &r);
    path = string_at(1);
    if (misbehave() || stream_out()) return;
    void (*run)(void) = path.size > 7 && same((Text){path.data, 7}, TEXT("/fetch/")) ? fetch : describe;
    for (u32 i = 0; i < sizeof ROUTES / sizeof *ROUTES; i++)
        if (same(path, ROUTES[i].path)) run = ROUTES[i].run;
    run();
    answer(200, plain(), (Text){told, told_size});
}
