// Bytes as text: comparing, numbers, and the two encodings at the border.
#pragma once
#include "abi.h"

bool same(Bytes one, Bytes other);
bool same_ignoring_case(Bytes one, Bytes other);
void to_lower(Bytes text);  // ASCII, in place
bool is_token(Bytes text);  // RFC 9110, section 5.6.2
bool is_digits(Bytes text);
u64 to_number(Bytes digits);
Bytes from_number(u64 number);

// Strings at the border of the sandbox carry bytes as code points (Latin-1), for WIT has no fast byte string.
Bytes from_latin1(Bytes text);  // to bytes, in place
u32 latin1_size(Bytes bytes);   // of the text that carries `bytes`
void put_latin1(u8 *place, Bytes bytes);
Bytes to_latin1(Bytes bytes);

// A guest's strings must be UTF-8, or its call traps.
Bytes as_utf8(Bytes text);  // whatever is not UTF-8 is a question mark, in place
Bytes as_ascii(Bytes text);  // for targets and authorities: whatever is not ASCII is percent-encoded
