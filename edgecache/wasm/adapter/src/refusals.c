// What is not there: files, sockets, databases, brokers. Whatever could open one says no in its interface's own words;
// what could only be called on something open cannot be reached, and traps (`stubs.c`).
#include "abi.h"

RESOURCE(network, "wasi:sockets/network@0.2", "network")

// ---- wasi:filesystem: no directory is open, so nothing can be

EXPORT("cm32p2|wasi:filesystem/preopens@0.2|get-directories") u8 *get_directories(void) { return answer(); }

EXPORT("cm32p2|wasi:filesystem/types@0.2|filesystem-error-code") u8 *filesystem_error_code(void *error) {
    (void)error;
    return answer();
}

// ---- wasi:sockets: error-code access-denied

static u8 *access_denied(void) {
    u8 *place = failed();
    place[4] = 1;
    return place;
}

// There is no way to refuse the network itself; nothing can be done with it.
EXPORT("cm32p2|wasi:sockets/instance-network@0.2|instance-network") Handle instance_network(void) {
    return network_new((void *)8);
}

EXPORT("cm32p2|wasi:sockets/network@0.2|network-error-code") u8 *network_error_code(void *error) {
    (void)error;
    return answer();
}

EXPORT("cm32p2|wasi:sockets/tcp-create-socket@0.2|create-tcp-socket") u8 *create_tcp_socket(u32 family) {
    (void)family;
    return access_denied();
}

EXPORT("cm32p2|wasi:sockets/udp-create-socket@0.2|create-udp-socket") u8 *create_udp_socket(u32 family) {
    (void)family;
    return access_denied();
}

EXPORT("cm32p2|wasi:sockets/ip-name-lookup@0.2|resolve-addresses")
u8 *resolve_addresses(void *network, u8 *name, u32 size) {
    (void)network, (void)name, (void)size;
    return access_denied();
}

// ---- databases and brokers of Spin: the case of the error that has a message, and the message

static u8 *not_here(u32 code) {
    u8 *place = failed();
    place[4] = (u8)code;
    put_bytes(place, 8, LITERAL("not available on this POP: use key-value, or outgoing HTTP"));
    return place;
}

#define OPEN(interface, code)                                                                     \
    EXPORT("cm32p2|" interface "|[static]connection.open") u8 *OPEN_NAME(__LINE__)(u8 * address, u32 size) { \
        (void)address, (void)size;                                                                \
        return not_here(code);                                                                    \
    }
#define OPEN_NAME(line) OPEN_NAME_(line)
#define OPEN_NAME_(line) open_##line

OPEN("fermyon:spin/sqlite@2", 1)    // access-denied
OPEN("spin:sqlite/sqlite@3", 1)     // access-denied
OPEN("fermyon:spin/postgres@2", 0)  // connection-failed
OPEN("spin:postgres/postgres@3", 0)
OPEN("spin:postgres/postgres@4", 0)
OPEN("fermyon:spin/mysql@2", 0)
OPEN("fermyon:spin/redis@2", 3)  // other

EXPORT("cm32p2|fermyon:spin/mqtt@2|[static]connection.open")
u8 *mqtt_open(u8 *address, u32 address_size, u8 *user, u32 user_size, u8 *password, u32 password_size, u64 keep_alive) {
    (void)address, (void)address_size, (void)user, (void)user_size, (void)password, (void)password_size;
    (void)keep_alive;
    return not_here(2);  // connection-failed
}
