// Key-value operations of the host, for Spin's interface and WASI's draft: both have the same calls, laid out alike.
#pragma once
#include "hostcall.h"

typedef struct { Bytes name; } Store;

Answer store_ask(Bytes op, const Store *store, Bytes key);
Answer store_ask_only(Bytes op, const Store *store);
Answer store_put(const Store *store, Bytes key, Bytes value);

// The `error` of these interfaces, which differ in their numbers only, at `offset`.
typedef struct { u8 no_such_store, access_denied, other; } StoreErrors;
u8 *store_refusal(const Answer *reply, const StoreErrors *errors, u32 offset);

// Answers whose payload is at 4.
u8 *store_opened(const Answer *reply, const StoreErrors *errors, Bytes name, Handle (*make)(void *));
u8 *store_value(Answer *reply, const StoreErrors *errors);   // result<option<list<u8>>, error>
u8 *store_exists(Answer *reply, const StoreErrors *errors);  // result<bool, error>
u8 *store_done(const Answer *reply, const StoreErrors *errors);
u8 *store_keys(Answer *reply, const StoreErrors *errors);  // result<list<string>, error>, and room for more
