// wasi:cli: no arguments, no environment, nothing on stdin, no terminal; what is printed goes to the function's log.
#include "cli.h"

#include "hostcall.h"
#include "io.h"

enum { HELD = 4096 };  // bytes of a line without end, before it goes as it is

struct Log {
    u32 held;
    u8 line[HELD];
};

static Log printed, complained;
static OutputStream out = {.log = &printed}, err = {.log = &complained};

static void send(Bytes level, Bytes text) {
    Message message = {0};
    message_add(&message, level);
    message_add(&message, text);
    Answer reply = ask(LITERAL("log"), message);  // a log that is refused is not the guest's concern
    heap_forget(message.data);
    (void)reply;
}

static void flush(Log *log, u32 size) {
    u32 text = size && log->line[size - 1] == '\n' ? size - 1 : size;
    if (text) send(log == &printed ? LITERAL("info") : LITERAL("error"), (Bytes){log->line, text});
    log->held -= size;
    for (u32 i = 0; i < log->held; i++) log->line[i] = log->line[size + i];
}

// Whole lines go at once, so that they are there when the guest traps; several of one write go as one record.
void log_write(Log *log, Bytes contents) {
    while (contents.size) {
        u32 size = HELD - log->held < contents.size ? HELD - log->held : contents.size;
        __builtin_memcpy(log->line + log->held, contents.data, size);
        contents.data += size;
        contents.size -= size;
        log->held += size;
        u32 end = log->held;
        while (end && log->line[end - 1] != '\n') end--;
        if (!end && log->held == HELD) end = HELD;
        if (end) flush(log, end);
    }
}

void logs_end(void) {
    if (printed.held) flush(&printed, printed.held);
    if (complained.held) flush(&complained, complained.held);
}

void log_error(Bytes text) { send(LITERAL("error"), text); }

EXPORT("cm32p2|wasi:cli/stdin@0.2|get-stdin") Handle get_stdin(void) {
    return input_stream_new(heap_zeroed(sizeof(InputStream)));
}

EXPORT("cm32p2|wasi:cli/stdout@0.2|get-stdout") Handle get_stdout(void) { return output_stream_new(&out); }

EXPORT("cm32p2|wasi:cli/stderr@0.2|get-stderr") Handle get_stderr(void) { return output_stream_new(&err); }

EXPORT("cm32p2|wasi:cli/environment@0.2|get-environment") u8 *get_environment(void) { return answer(); }

EXPORT("cm32p2|wasi:cli/environment@0.2|get-arguments") u8 *get_arguments(void) { return answer(); }

EXPORT("cm32p2|wasi:cli/environment@0.2|initial-cwd") u8 *initial_cwd(void) { return answer(); }

EXPORT("cm32p2|wasi:cli/terminal-stdin@0.2|get-terminal-stdin") u8 *get_terminal_stdin(void) { return answer(); }

EXPORT("cm32p2|wasi:cli/terminal-stdout@0.2|get-terminal-stdout") u8 *get_terminal_stdout(void) { return answer(); }

EXPORT("cm32p2|wasi:cli/terminal-stderr@0.2|get-terminal-stderr") u8 *get_terminal_stderr(void) { return answer(); }

// An exit ends the call, and a call can only be ended by a trap; the log tells the two apart.
static void leave(u32 status) {
    logs_end();
    log_error(status ? LITERAL("the function called exit, with an error") : LITERAL("the function called exit"));
    __builtin_trap();
}

EXPORT("cm32p2|wasi:cli/exit@0.2|exit") void cli_exit(u32 failed) { leave(failed); }

EXPORT("cm32p2|wasi:cli/exit@0.2|exit-with-code") void cli_exit_with_code(u32 code) { leave(code); }
