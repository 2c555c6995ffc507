// The log of a function: what it prints, and what the adapter has to say about it.
#pragma once
#include "abi.h"

void logs_end(void);  // the lines without end
void log_error(Bytes text);
