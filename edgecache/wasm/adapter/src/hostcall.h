// The one import: an operation and its argument out, an answer back; both as netstrings, carried as Latin-1.
// Which operations there are, and what they take and give, is the table in `edgecache/wasm/hostcalls.py`.
#pragma once
#include "abi.h"

typedef struct { u8 *data; u32 size; } Message;  // begins as {0}

void message_add(Message *message, Bytes field);
void message_number(Message *message, u64 number);

typedef struct {
    bool refused;
    Bytes code, text;  // of a refusal: the code of `hostcalls.Code`, and a sentence
    Bytes rest;        // of an answer: the fields that were not taken yet
    u8 *start;         // where it is in memory, for heap_forget
} Answer;

Answer ask(Bytes op, Message argument);
bool answer_more(const Answer *answer);
Bytes answer_field(Answer *answer);  // the next; traps if there is none
bool refused_as(const Answer *answer, Bytes code);

// The next field of any netstrings; traps on anything else: they come from our own host.
Bytes netstring(Bytes *packed);
