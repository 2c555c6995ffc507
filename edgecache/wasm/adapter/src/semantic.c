// edgecache:semantic/cache@0.1.0: the cache of this POP, asked by a function.
#include "heap.h"
#include "hostcall.h"
#include "text.h"

// A similarity: a decimal number, small, perhaps with a sign.
static float to_decimal(Bytes text) {
    double number = 0, place = 0;
    bool negative = text.size && text.data[0] == '-';
    for (u32 i = negative; i < text.size; i++) {
        if (text.data[i] == '.') {
            place = 1;
        } else if (text.data[i] >= '0' && text.data[i] <= '9') {
            number = number * 10 + (text.data[i] - '0');
            place *= 10;
        } else {
            break;
        }
    }
    if (place > 1) number /= place;
    return (float)(negative ? -number : number);
}

EXPORT("cm32p2|edgecache:semantic/cache@0.1|lookup")
u8 *cache_lookup(u8 *model, u32 model_size, u8 *question, u32 question_size) {
    Message message = {0};
    message_add(&message, (Bytes){model, model_size});
    message_add(&message, (Bytes){question, question_size});
    Answer reply = ask(LITERAL("cache.lookup"), message);
    if (reply.refused) {
        u8 *place = failed();  // result<_, error>: the case is at 4, the message at 8
        place[4] = !refused_as(&reply, LITERAL("denied"));
        if (place[4]) put_bytes(place, 8, reply.text);
        return place;
    }
    u8 *place = answer();
    if (!answer_more(&reply)) return place;
    Bytes text = as_utf8(answer_field(&reply));
    float similarity = to_decimal(answer_field(&reply));
    place[4] = 1;  // option<found>: answer, similarity, entry
    put_bytes(place, 8, text);
    __builtin_memcpy(place + 16, &similarity, sizeof similarity);
    put_bytes(place, 20, as_utf8(answer_field(&reply)));
    return place;
}
