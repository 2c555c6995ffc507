/* A command that does what the path of the request says; see tests/wasm/test_command.py. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

__attribute__((import_module("edgecache"), import_name("call")))
uint32_t host_call(const char *op, uint32_t op_length, const void *argument, uint32_t length);
__attribute__((import_module("edgecache"), import_name("answer")))
void host_answer(void *buffer);

extern char **environ;

static void head(void) { printf("Status: 200 OK\nContent-Type: text/plain\n\n"); }

static void echo(void) {
    char buffer[4096];
    size_t length;
    while ((length = fread(buffer, 1, sizeof buffer, stdin)) > 0) fwrite(buffer, 1, length, stdout);
}

static void upper_each_part(void) {
    char buffer[4096];
    ssize_t length;
    printf("content-type: text/event-stream\n\n");
    fflush(stdout);
    while ((length = read(0, buffer, sizeof buffer)) > 0) {
        for (ssize_t i = 0; i < length; i++)
            if (buffer[i] >= 'a' && buffer[i] <= 'z') buffer[i] -= 32;
        write(1, buffer, length);
    }
}

static void time_passes(void) {
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    sleep(2);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%lld %lld\n", (long long)time(NULL), (long long)(ended.tv_sec - begun.tv_sec));
}

static void recurse(volatile char *above) {
    volatile char here[1024];
    here[0] = above[0] + 1;
    recurse(here);
    above[0] = here[1];
}

int main(int count, char **arguments) {
    const char *path = getenv("PATH_INFO");
    if (!strcmp(path, "/env")) {
        head();
        for (char **variable = environ; *variable; variable++) puts(*variable);
        printf("%d %s\n", count, arguments[0]);
    } else if (!strcmp(path, "/echo")) {
        printf("Status: 201 Created\r\nX-Method: %s\r\n\r\n", getenv("REQUEST_METHOD"));
        echo();
    } else if (!strcmp(path, "/upper")) {
        upper_each_part();
    } else if (!strcmp(path, "/files")) {
        FILE *opened = fopen("/etc/passwd", "r");
        head();
        printf("%s %d\n", opened ? "opened" : "refused", errno);
        printf("%s\n", fopen("/tmp/new", "w") ? "opened" : "refused");
        printf("%d\n", chdir("/"));
        printf("%lld\n", (long long)lseek(1, 0, SEEK_SET));
    } else if (!strcmp(path, "/time")) {
        head();
        time_passes();
    } else if (!strcmp(path, "/random")) {
        unsigned char bytes[8];
        head();
        getentropy(bytes, sizeof bytes);
        for (int i = 0; i < 8; i++) printf("%02x", bytes[i]);
    } else if (!strcmp(path, "/exit")) {
        fprintf(stderr, "first line\nwhat went wrong\n");
        return 3;
    } else if (!strcmp(path, "/silent")) {
        return 0;
    } else if (!strcmp(path, "/headless")) {
        printf("just text");
    } else if (!strcmp(path, "/loop")) {
        for (volatile int i = 0;; i++) {}
    } else if (!strcmp(path, "/recurse")) {
        char none = 0;
        recurse(&none);
    } else if (!strcmp(path, "/abort")) {
        abort();
    } else if (!strcmp(path, "/flood")) {
        head();
        for (;;) fputs("more and more of it\n", stdout);
    } else if (!strcmp(path, "/small")) {
        head();
        fflush(stdout);
        for (int i = 0; i < 1000; i++) write(1, "x", 1);
    } else if (!strcmp(path, "/noise")) {
        for (int i = 0; i < 5000; i++) fputs("a line that nobody will read in full\n", stderr);
        head();
    } else if (!strcmp(path, "/host")) {
        static const char argument[] = "8:greeting,";
        char answer[256] = "";
        uint32_t length = host_call("var.get", 7, argument, sizeof argument - 1);
        head();
        host_answer(answer);
        fwrite(answer, 1, length, stdout);
    } else if (!strcmp(path, "/wild")) {
        host_call((const char *)0x7fffffff, 7, (const void *)0x7fffffff, 0x7fffffff);
    } else {
        printf("Status: 404 Not Found\n\n");
    }
    return 0;
}
