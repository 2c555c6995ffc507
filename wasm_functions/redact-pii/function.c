/* Blots out what identifies people in answers: e-mail addresses, payment card numbers, and other numbers of nine digits or
 * more (phones, accounts). Only the texts of messages are touched ("content", "text"): ids and times stay what they are.
 *
 * The body is JSON and stays JSON: the texts are read as they stand, escapes are copied whole and end a word. */
#include "edgecache.h"

static const ec_text EMAIL = EC_TEXT("[email]"), CARD = EC_TEXT("[card]"), NUMBER = EC_TEXT("[number]");

static int is_digit(char c) { return c >= '0' && c <= '9'; }
static int is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '+' || c == '-' || c == '.';
}

/* ISO/IEC 7812: the check digit of card numbers. */
static int passes_luhn(ec_text text) {
  uint32_t sum = 0, place = 0;
  for (uint32_t i = text.size; i-- > 0;) {
    if (!is_digit(text.at[i])) continue;
    uint32_t digit = (uint32_t)(text.at[i] - '0') << (place++ & 1);
    sum += digit > 9 ? digit - 9 : digit;
  }
  return sum % 10 == 0;
}

/* The number that begins at `from`: digits, with single spaces, dashes or dots between them. `digits` is their count. */
static ec_text number_at(ec_text text, uint32_t from, uint32_t *digits) {
  uint32_t end = from;
  *digits = 0;
  for (uint32_t i = from; i < text.size; i++) {
    if (is_digit(text.at[i])) {
      end = i + 1;
      ++*digits;
    } else if (end != i || (text.at[i] != ' ' && text.at[i] != '-' && text.at[i] != '.')) {
      break;
    }
  }
  return (ec_text){text.at + from, end - from};
}

/* The length of the e-mail address that is the run of word characters at `from`, 0 where it is none. */
static uint32_t email_at(ec_text text, uint32_t from, uint32_t run) {
  uint32_t at = from + run;
  if (run == 0 || at + 1 >= text.size || text.at[at] != '@' || !is_word(text.at[at + 1])) return 0;
  uint32_t end = at + 1;
  while (end < text.size && is_word(text.at[end])) end++;
  while (text.at[end - 1] == '.' || text.at[end - 1] == '-') end--; /* the end of the sentence, not of the address */
  return end - from;
}

static uint32_t run_at(ec_text text, uint32_t from) {
  uint32_t end = from;
  while (end < text.size && is_word(text.at[end])) end++;
  return end - from;
}

static uint32_t found; /* how much was blotted out */

/* Writes the inside of a JSON string. */
static void redact(ec_text text) {
  uint32_t kept = 0; /* what is before this is written */
  for (uint32_t i = 0; i < text.size;) {
    if (text.at[i] == '\\') {
      i += i + 1 < text.size && text.at[i + 1] == 'u' ? 6 : 2;
      continue;
    }
    uint32_t run = run_at(text, i);
    if (run == 0) {
      i++;
      continue;
    }
    ec_text instead = EMAIL;
    uint32_t start = i, size = email_at(text, i, run), digits;
    if (size == 0) {
      while (start < i + run && text.at[start] == '+') start++;
      ec_text number = number_at(text, start, &digits);
      instead = digits >= 13 && digits <= 19 && passes_luhn(number) ? CARD : NUMBER;
      size = digits >= 9 && start + number.size >= i + run - 1 ? number.size : 0;
    }
    if (size == 0) {
      i += run;
      continue;
    }
    ec_write((ec_text){text.at + kept, start - kept});
    ec_write(instead);
    kept = i = start + size;
    found++;
  }
  ec_write((ec_text){text.at + kept, text.size - kept});
}

/* The end of the JSON string whose inside begins at `from`. */
static uint32_t string_end(ec_text body, uint32_t from) {
  uint32_t i = from;
  while (i < body.size && body.at[i] != '"') i += body.at[i] == '\\' ? 2 : 1;
  return i < body.size ? i : body.size;
}

static uint32_t blanks(ec_text body, uint32_t from) {
  while (from < body.size && (body.at[from] == ' ' || body.at[from] == '\n' || body.at[from] == '\r' || body.at[from] == '\t'))
    from++;
  return from;
}

void ec_handle(ec_text request) {
  ec_text body = ec_body(request);
  uint32_t kept = 0;
  ec_write(EC_TEXT("200\ncontent-type: application/json\nx-redacted: yes\n\n"));
  for (uint32_t i = 0; i < body.size; i++) {
    if (body.at[i] != '"') continue;
    ec_text name = {body.at + i + 1, string_end(body, i + 1) - i - 1};
    i += name.size + 1; /* the closing quote */
    if (!ec_same(name, EC_TEXT("content")) && !ec_same(name, EC_TEXT("text"))) continue;
    uint32_t value = blanks(body, i + 1);
    if (value >= body.size || body.at[value] != ':') continue; /* a value that says so, not a name */
    value = blanks(body, value + 1);
    if (value >= body.size || body.at[value] != '"') continue;
    uint32_t end = string_end(body, value + 1);
    ec_write((ec_text){body.at + kept, value + 1 - kept});
    redact((ec_text){body.at + value + 1, end - value - 1});
    kept = i = end;
  }
  ec_write((ec_text){body.at + kept, body.size - kept});
  if (found == 0) ec_unchanged();
}
