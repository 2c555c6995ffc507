/* Fills in {{name}} in answers as they leave the POP, from the client's `x-user` header.
 *
 * The answer in the cache keeps its {{name}}: one stored answer serves everybody. The body is JSON; {{name}} is looked
 * for in its text as it is, and what replaces it is escaped, so the JSON stays JSON. */
#include "edgecache.h"

static const ec_text placeholder = EC_TEXT("{{name}}");

void ec_handle(ec_text request) {
  ec_text body = ec_body(request);
  uint32_t found = ec_find(body, placeholder, 0);
  if (found == body.size) return; /* nothing to fill in: leave the answer as it is */

  ec_text name = ec_header(request, EC_TEXT("x-user"), EC_TEXT("there"));
  ec_write(EC_TEXT("200\ncontent-type: application/json\nx-personalised: yes\n\n"));
  uint32_t from = 0;
  for (; found < body.size; found = ec_find(body, placeholder, from)) {
    ec_write((ec_text){body.at + from, found - from});
    ec_write_json(name);
    from = found + placeholder.size;
  }
  ec_write((ec_text){body.at + from, body.size - from});
}
