// wasi:http/types: fields. Names are kept in lower case, as HTTP/2 has them.
#include "http.h"
#include "text.h"

enum { VALID = -1, INVALID_SYNTAX, FORBIDDEN, IMMUTABLE };  // header-error, and none

// They belong to the connection, not to the message; those that wasmtime refuses.
static const Bytes OF_CONNECTION[] = {
    LITERAL("connection"), LITERAL("host"), LITERAL("http2-settings"), LITERAL("keep-alive"),
    LITERAL("proxy-authenticate"), LITERAL("proxy-authorization"), LITERAL("proxy-connection"),
    LITERAL("transfer-encoding"), LITERAL("upgrade"),
};

static bool is_forbidden(Bytes name) {
    for (u32 i = 0; i < sizeof OF_CONNECTION / sizeof *OF_CONNECTION; i++)
        if (same_ignoring_case(name, OF_CONNECTION[i])) return true;
    return false;
}

// RFC 9110, section 5.5: visible characters, spaces, tabs, and whatever is over 0x7f.
static bool is_value(Bytes value) {
    for (u32 i = 0; i < value.size; i++)
        if ((value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f) return false;
    return true;
}

static int name_error(Bytes name) {
    if (!is_token(name)) return INVALID_SYNTAX;
    return is_forbidden(name) ? FORBIDDEN : VALID;
}

static int field_error(Field field) {
    int error = name_error(field.name);
    return error == VALID && !is_value(field.value) ? INVALID_SYNTAX : error;
}

void fields_add(Fields *self, Field field) {
    if (self->count == self->capacity) {
        u32 capacity = self->capacity ? 2 * self->capacity : 8;
        Field *items = heap_take(capacity * sizeof *items);
        __builtin_memcpy(items, self->items, self->count * sizeof *items);
        self->items = items;
        self->capacity = capacity;
    }
    self->items[self->count++] = field;
}

void fields_add_received(Fields *self, Field field) {
    if (field_error(field) != VALID) return;
    to_lower(field.name);
    fields_add(self, field);
}

bool fields_find(const Fields *self, Bytes name, Bytes *value) {
    for (u32 i = 0; i < self->count; i++)
        if (same_ignoring_case(self->items[i].name, name)) {
            *value = self->items[i].value;
            return true;
        }
    return false;
}

Handle fields_shown(const Fields *self) {
    Fields *shown = heap_take(sizeof *shown);
    *shown = *self;
    shown->immutable = true;
    return fields_new(shown);
}

static void remove_all(Fields *self, Bytes name) {
    u32 kept = 0;
    for (u32 i = 0; i < self->count; i++)
        if (!same_ignoring_case(self->items[i].name, name)) self->items[kept++] = self->items[i];
    self->count = kept;
}

// result<_, header-error>: the error is at 1
static u8 *outcome(int error) {
    if (error == VALID) return answer();
    u8 *place = failed();
    place[1] = (u8)error;
    return place;
}

TYPES("[constructor]fields") Handle fields_constructor(void) { return fields_new(heap_zeroed(sizeof(Fields))); }

TYPES("[static]fields.from-list") u8 *fields_from_list(Field *items, u32 count) {
    for (u32 i = 0; i < count; i++) {
        int error = field_error(items[i]);
        if (error != VALID) {
            u8 *place = failed();  // result<own<fields>, header-error>: the error is at 4
            place[4] = (u8)error;
            return place;
        }
        to_lower(items[i].name);
    }
    Fields *made = heap_zeroed(sizeof *made);
    *made = (Fields){items, count, count, false};
    return ok32(fields_new(made));
}

TYPES("[method]fields.get") u8 *fields_get(Fields *self, u8 *data, u32 size) {
    Bytes name = {data, size}, *found = heap_take(self->count * sizeof *found);
    u32 count = 0;
    for (u32 i = 0; i < self->count; i++)
        if (same_ignoring_case(self->items[i].name, name)) found[count++] = self->items[i].value;
    u8 *place = answer();
    put_bytes(place, 0, (Bytes){(u8 *)found, count});
    heap_forget(data);
    return place;
}

TYPES("[method]fields.has") u32 fields_has(Fields *self, u8 *data, u32 size) {
    Bytes value;
    bool found = fields_find(self, (Bytes){data, size}, &value);
    heap_forget(data);
    return found;
}

TYPES("[method]fields.set") u8 *fields_set(Fields *self, u8 *data, u32 size, Bytes *values, u32 count) {
    Bytes name = {data, size};
    if (self->immutable) return outcome(IMMUTABLE);
    int error = name_error(name);
    for (u32 i = 0; i < count && error == VALID; i++)
        if (!is_value(values[i])) error = INVALID_SYNTAX;
    if (error != VALID) return outcome(error);
    to_lower(name);
    remove_all(self, name);
    for (u32 i = 0; i < count; i++) fields_add(self, (Field){name, values[i]});
    return outcome(VALID);
}

TYPES("[method]fields.delete") u8 *fields_delete(Fields *self, u8 *data, u32 size) {
    Bytes name = {data, size};
    int error = self->immutable ? IMMUTABLE : name_error(name);
    if (error == VALID) remove_all(self, name);
    heap_forget(data);
    return outcome(error);
}

TYPES("[method]fields.append")
u8 *fields_append(Fields *self, u8 *data, u32 size, u8 *value, u32 value_size) {
    Field field = {{data, size}, {value, value_size}};
    int error = self->immutable ? IMMUTABLE : field_error(field);
    if (error != VALID) return outcome(error);
    to_lower(field.name);
    fields_add(self, field);
    return outcome(VALID);
}

TYPES("[method]fields.entries") u8 *fields_entries(Fields *self) {
    u8 *place = answer();
    put_bytes(place, 0, (Bytes){(u8 *)self->items, self->count});
    return place;
}

TYPES("[method]fields.clone") Handle fields_clone(Fields *self) {
    Fields *clone = heap_zeroed(sizeof *clone);
    for (u32 i = 0; i < self->count; i++) fields_add(clone, self->items[i]);
    return fields_new(clone);
}
