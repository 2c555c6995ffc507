// Imports of a guest in plain C, by hand: no libc, no generated bindings. A function whose result does not fit one
// register writes it to the last pointer; `Result` is large enough for all that are used here.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
typedef struct { const char *data; u32 size; } Text;
typedef struct { Text name, value; } Header;
typedef union { u8 bytes[96]; u32 words[24]; u64 longs[12]; Text texts[12]; } Result;

#define TEXT(literal) ((Text){literal, sizeof(literal) - 1})
#define FROM(module, name) __attribute__((import_module("cm32p2|" module), import_name(name)))
#define HTTP(name) FROM("wasi:http/types@0.2", name)
#define STREAMS(name) FROM("wasi:io/streams@0.2", name)
#define POLL(name) FROM("wasi:io/poll@0.2", name)

HTTP("[method]incoming-request.method") void request_method(u32, Result *);
HTTP("[method]incoming-request.path-with-query") void request_path(u32, Result *);
HTTP("[method]incoming-request.scheme") void request_scheme(u32, Result *);
HTTP("[method]incoming-request.authority") void request_authority(u32, Result *);
HTTP("[method]incoming-request.headers") u32 request_headers(u32);
HTTP("[method]incoming-request.consume") void request_consume(u32, Result *);
HTTP("[method]incoming-body.stream") void body_stream(u32, Result *);
HTTP("[static]incoming-body.finish") u32 body_finish(u32);
HTTP("[method]future-trailers.get") void trailers_get(u32, Result *);
HTTP("[constructor]fields") u32 fields_new(void);
HTTP("[static]fields.from-list") void fields_from_list(const Header *, u32, Result *);
HTTP("[method]fields.get") void fields_get(u32, const char *, u32, Result *);
HTTP("[method]fields.has") u32 fields_has(u32, const char *, u32);
HTTP("[method]fields.set") void fields_set(u32, const char *, u32, const Text *, u32, Result *);
HTTP("[method]fields.delete") void fields_delete(u32, const char *, u32, Result *);
HTTP("[method]fields.append") void fields_append(u32, const char *, u32, const char *, u32, Result *);
HTTP("[method]fields.entries") void fields_entries(u32, Result *);
HTTP("[method]fields.clone") u32 fields_clone(u32);
HTTP("[constructor]outgoing-response") u32 response_new(u32);
HTTP("[method]outgoing-response.status-code") u32 response_status(u32);
HTTP("[method]outgoing-response.set-status-code") u32 response_set_status(u32, u32);
HTTP("[method]outgoing-response.headers") u32 response_headers(u32);
HTTP("[method]outgoing-response.body") void response_body(u32, Result *);
HTTP("[method]outgoing-body.write") void outgoing_body_write(u32, Result *);
HTTP("[static]outgoing-body.finish") void outgoing_body_finish(u32, u32 has_trailers, u32 trailers, Result *);
HTTP("outgoing-body_drop") void outgoing_body_drop(u32);
HTTP("[static]response-outparam.set")
void outparam_set(u32, u32 is_error, u32 value, u32, u64, u32, u32, u32, u32);
HTTP("[method]response-outparam.send-informational") void send_informational(u32, u32 status, u32 headers, Result *);
HTTP("[constructor]outgoing-request") u32 outgoing_request_new(u32);
HTTP("[method]outgoing-request.method") void outgoing_request_method(u32, Result *);
HTTP("[method]outgoing-request.set-method") u32 outgoing_request_set_method(u32, u32, const char *, u32);
HTTP("[method]outgoing-request.set-path-with-query") u32 outgoing_request_set_path(u32, u32, const char *, u32);
HTTP("[method]outgoing-request.set-scheme") u32 outgoing_request_set_scheme(u32, u32, u32, const char *, u32);
HTTP("[method]outgoing-request.set-authority") u32 outgoing_request_set_authority(u32, u32, const char *, u32);
HTTP("[method]outgoing-request.body") void outgoing_request_body(u32, Result *);
HTTP("[constructor]request-options") u32 options_new(void);
HTTP("[method]request-options.set-connect-timeout") u32 options_set_connect(u32, u32, u64);
HTTP("[method]future-incoming-response.get") void future_get(u32, Result *);
HTTP("[method]future-incoming-response.subscribe") u32 future_subscribe(u32);
HTTP("[method]incoming-response.status") u32 incoming_response_status(u32);
HTTP("[method]incoming-response.headers") u32 incoming_response_headers(u32);
HTTP("[method]incoming-response.consume") void incoming_response_consume(u32, Result *);
FROM("wasi:http/outgoing-handler@0.2", "handle") void outgoing_handle(u32, u32 has_options, u32 options, Result *);

STREAMS("[method]input-stream.read") void input_read(u32, u64, Result *);
STREAMS("[method]input-stream.blocking-read") void input_blocking_read(u32, u64, Result *);
STREAMS("[method]input-stream.skip") void input_skip(u32, u64, Result *);
STREAMS("[method]output-stream.check-write") void output_check_write(u32, Result *);
STREAMS("[method]output-stream.write") void output_write(u32, const char *, u32, Result *);
STREAMS("[method]output-stream.blocking-write-and-flush") void output_blocking_write(u32, const char *, u32, Result *);
STREAMS("[method]output-stream.write-zeroes") void output_write_zeroes(u32, u64, Result *);
STREAMS("[method]output-stream.splice") void output_splice(u32, u32, u64, Result *);
STREAMS("[method]output-stream.flush") void output_flush(u32, Result *);
STREAMS("[method]output-stream.subscribe") u32 output_subscribe(u32);
STREAMS("input-stream_drop") void input_drop(u32);
STREAMS("output-stream_drop") void output_drop(u32);
FROM("wasi:io/error@0.2", "[method]error.to-debug-string") void error_text(u32, Result *);
POLL("[method]pollable.ready") u32 pollable_ready(u32);
POLL("[method]pollable.block") void pollable_block(u32);
POLL("poll") void poll_all(const u32 *, u32, Result *);

FROM("wasi:clocks/monotonic-clock@0.2", "now") u64 monotonic_now(void);
FROM("wasi:clocks/monotonic-clock@0.2", "subscribe-duration") u32 subscribe_duration(u64);
FROM("wasi:clocks/monotonic-clock@0.2", "subscribe-instant") u32 subscribe_instant(u64);
FROM("wasi:clocks/wall-clock@0.2", "now") void wall_now(Result *);
FROM("wasi:clocks/timezone@0.2", "display") void timezone_display(u64, u32, Result *);
FROM("wasi:random/random@0.2", "get-random-bytes") void random_bytes(u64, Result *);
FROM("wasi:random/random@0.2", "get-random-u64") u64 random_u64(void);
FROM("wasi:random/insecure@0.2", "get-insecure-random-u64") u64 insecure_u64(void);
FROM("wasi:random/insecure-seed@0.2", "insecure-seed") void insecure_seed(Result *);
FROM("wasi:cli/environment@0.2", "get-environment") void get_environment(Result *);
FROM("wasi:cli/environment@0.2", "get-arguments") void get_arguments(Result *);
FROM("wasi:cli/environment@0.2", "initial-cwd") void initial_cwd(Result *);
FROM("wasi:cli/exit@0.2", "exit") void wasi_exit(u32 failed);
FROM("wasi:cli/stdin@0.2", "get-stdin") u32 get_stdin(void);
FROM("wasi:cli/stdout@0.2", "get-stdout") u32 get_stdout(void);
FROM("wasi:cli/stderr@0.2", "get-stderr") u32 get_stderr(void);
FROM("wasi:cli/terminal-stdout@0.2", "get-terminal-stdout") void get_terminal_stdout(Result *);

FROM("wasi:filesystem/preopens@0.2", "get-directories") void get_directories(Result *);
FROM("wasi:sockets/instance-network@0.2", "instance-network") u32 instance_network(void);
FROM("wasi:sockets/tcp-create-socket@0.2", "create-tcp-socket") void create_tcp_socket(u32, Result *);
FROM("wasi:sockets/udp-create-socket@0.2", "create-udp-socket") void create_udp_socket(u32, Result *);
FROM("wasi:sockets/ip-name-lookup@0.2", "resolve-addresses") void resolve_addresses(u32, const char *, u32, Result *);
FROM("fermyon:spin/sqlite@2", "[static]connection.open") void sqlite_open(const char *, u32, Result *);
FROM("spin:sqlite/sqlite@3", "[static]connection.open") void sqlite3_open(const char *, u32, Result *);
FROM("fermyon:spin/postgres@2", "[static]connection.open") void postgres_open(const char *, u32, Result *);
FROM("spin:postgres/postgres@3", "[static]connection.open") void postgres3_open(const char *, u32, Result *);
FROM("spin:postgres/postgres@4", "[static]connection.open") void postgres4_open(const char *, u32, Result *);
FROM("fermyon:spin/mysql@2", "[static]connection.open") void mysql_open(const char *, u32, Result *);
FROM("fermyon:spin/redis@2", "[static]connection.open") void redis_open(const char *, u32, Result *);
FROM("fermyon:spin/mqtt@2", "[static]connection.open")
void mqtt_open(const char *, u32, const char *, u32, const char *, u32, u64, Result *);

#define SPIN_KV(name) FROM("fermyon:spin/key-value@2", name)
SPIN_KV("[static]store.open") void store_open(const char *, u32, Result *);
SPIN_KV("[method]store.get") void store_get(u32, const char *, u32, Result *);
SPIN_KV("[method]store.set") void store_set(u32, const char *, u32, const char *, u32, Result *);
SPIN_KV("[method]store.delete") void store_delete(u32, const char *, u32, Result *);
SPIN_KV("[method]store.exists") void store_exists(u32, const char *, u32, Result *);
SPIN_KV("[method]store.get-keys") void store_keys(u32, Result *);
#define KEYVALUE(interface, name) FROM("wasi:keyvalue/" interface "@0.2.0-draft2", name)
KEYVALUE("store", "open") void bucket_open(const char *, u32, Result *);
KEYVALUE("store", "[method]bucket.get") void bucket_get(u32, const char *, u32, Result *);
KEYVALUE("store", "[method]bucket.set") void bucket_set(u32, const char *, u32, const char *, u32, Result *);
KEYVALUE("store", "[method]bucket.exists") void bucket_exists(u32, const char *, u32, Result *);
KEYVALUE("store", "[method]bucket.delete") void bucket_delete(u32, const char *, u32, Result *);
KEYVALUE("store", "[method]bucket.list-keys") void bucket_keys(u32, u32, const char *, u32, Result *);
KEYVALUE("atomics", "increment") void increment(u32, const char *, u32, s64, Result *);
KEYVALUE("atomics", "[static]cas.new") void cas_new(u32, const char *, u32, Result *);
KEYVALUE("atomics", "[method]cas.current") void cas_current(u32, Result *);
KEYVALUE("atomics", "swap") void cas_swap(u32, const char *, u32, Result *);
KEYVALUE("batch", "get-many") void get_many(u32, const Text *, u32, Result *);
KEYVALUE("batch", "set-many") void set_many(u32, const Header *, u32, Result *);
KEYVALUE("batch", "delete-many") void delete_many(u32, const Text *, u32, Result *);
FROM("fermyon:spin/variables@2", "get") void variable_get(const char *, u32, Result *);
FROM("wasi:config/store@0.2.0-draft-2024-09-27", "get") void config_get(const char *, u32, Result *);
FROM("wasi:config/store@0.2.0-draft-2024-09-27", "get-all") void config_get_all(Result *);
FROM("fermyon:spin/llm@2", "infer")
void llm_infer(const char *, u32, const char *, u32, u32, u32, float, u32, float, u32, float, Result *);
FROM("fermyon:spin/llm@2", "generate-embeddings") void llm_embed(const char *, u32, const Text *, u32, Result *);
FROM("edgecache:semantic/cache@0.1", "lookup") void cache_lookup(const char *, u32, const char *, u32, Result *);

// ---- memory: taken, never given back; the instance is gone after the call

extern u8 __heap_base;
static u32 heap_top;

__attribute__((export_name("cm32p2_realloc"))) void *cabi_realloc(void *old, u32 old_size, u32 alignment, u32 size) {
    (void)old, (void)old_size;
    if (!size) return (void *)(uintptr_t)alignment;
    if (!heap_top) heap_top = (u32)(uintptr_t)&__heap_base;
    u32 start = (heap_top + 7) & ~7u, limit = (u32)__builtin_wasm_memory_size(0) * 65536;
    heap_top = start + size;
    if (heap_top > limit && __builtin_wasm_memory_grow(0, (heap_top - limit + 65535) / 65536) == (size_t)-1)
        __builtin_trap();
    return (void *)(uintptr_t)start;
}

__attribute__((export_name("cm32p2_initialize"))) void initialize(void) {}

static bool same(Text one, Text other) {
    if (one.size != other.size) return false;
    for (u32 i = 0; i < one.size; i++)
        if (one.data[i] != other.data[i]) return false;
    return true;
}
