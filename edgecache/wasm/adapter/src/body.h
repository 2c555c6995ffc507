// Sending the response of the call part by part.
#pragma once
#include "http.h"

Written response_send_head(Bytes *reason);                      // once, however often it is called
Written response_send_kept(OutgoingBody *body, Bytes *reason);  // what was written before the response was set
