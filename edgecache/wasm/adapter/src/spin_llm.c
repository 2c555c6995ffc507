// fermyon:spin/llm@2.0.0: the host's embedder and the POP's own pipeline.
#include "heap.h"
#include "hostcall.h"
#include "text.h"

#define LLM(name) EXPORT("cm32p2|fermyon:spin/llm@2|" name)

enum { MODEL_NOT_SUPPORTED, RUNTIME_ERROR, INVALID_INPUT };

// result<_, error>: the case is at 4, the message at 8
static u8 *error(u32 code, Bytes message) {
    u8 *place = failed();
    place[4] = (u8)code;
    put_bytes(place, 8, message);
    return place;
}

static u8 *refusal(const Answer *reply) {
    if (refused_as(reply, LITERAL("not-found"))) return error(MODEL_NOT_SUPPORTED, (Bytes){0});
    bool invalid = refused_as(reply, LITERAL("invalid")) || refused_as(reply, LITERAL("denied"));  // as Spin has it
    return error(invalid ? INVALID_INPUT : RUNTIME_ERROR, reply->text);
}

// Six decimals are enough for what these numbers say. False where they are not.
static bool add_decimal(Message *message, float number) {
    if (!(number > -1e6f && number < 1e6f)) return false;
    u8 text[16], *start = text + sizeof text;
    double size = number < 0 ? -(double)number : number;
    u64 millionths = (u64)(size * 1e6 + 0.5);
    for (u32 place = 0; place < 6 || millionths || place == 6; place++) {
        if (place == 6) *--start = '.';
        *--start = '0' + millionths % 10;
        millionths /= 10;
    }
    if (number < 0) *--start = '-';
    message_add(message, (Bytes){start, text + sizeof text - start});
    return true;
}

LLM("infer")
u8 *llm_infer(u8 *model, u32 model_size, u8 *prompt, u32 prompt_size, u32 has_parameters, u32 max_tokens,
              float repeat_penalty, u32 repeat_last, float temperature, u32 top_k, float top_p) {
    if (!has_parameters)  // Spin's defaults
        max_tokens = 100, repeat_penalty = 1.1f, repeat_last = 64, temperature = 0.8f, top_k = 40, top_p = 0.9f;
    Message message = {0};
    message_add(&message, (Bytes){model, model_size});
    message_add(&message, (Bytes){prompt, prompt_size});
    message_number(&message, max_tokens);
    bool sane = add_decimal(&message, repeat_penalty);
    message_number(&message, repeat_last);
    sane = sane && add_decimal(&message, temperature);
    message_number(&message, top_k);
    sane = sane && add_decimal(&message, top_p);
    if (!sane) return error(INVALID_INPUT, LITERAL("a parameter is not a number of a sensible size"));
    Answer reply = ask(LITERAL("llm.infer"), message);
    if (reply.refused) return refusal(&reply);
    Bytes text = as_utf8(answer_field(&reply));
    u64 prompt_tokens = to_number(answer_field(&reply)), made_tokens = to_number(answer_field(&reply));
    u8 *place = answer();  // text, prompt-token-count, generated-token-count
    put_bytes(place, 4, text);
    put32(place, 12, (u32)prompt_tokens);
    put32(place, 16, (u32)made_tokens);
    return place;
}

LLM("generate-embeddings")
u8 *llm_embed(u8 *model, u32 model_size, Bytes *texts, u32 count) {
    Message message = {0};
    message_add(&message, (Bytes){model, model_size});
    for (u32 i = 0; i < count; i++) message_add(&message, texts[i]);
    Answer reply = ask(LITERAL("llm.embed"), message);
    if (reply.refused) return refusal(&reply);
    u64 tokens = to_number(answer_field(&reply));
    Bytes *vectors = heap_take(count * sizeof *vectors);
    u32 found = 0;
    for (; found < count && answer_more(&reply); found++) {
        Bytes raw = answer_field(&reply);
        u8 *aligned = heap_take(raw.size);  // the answer is not, and floats must be
        __builtin_memcpy(aligned, raw.data, raw.size);
        vectors[found] = (Bytes){aligned, raw.size / 4};
    }
    if (found < count) return error(RUNTIME_ERROR, LITERAL("fewer vectors than texts"));
    u8 *place = answer();  // list<list<f32>>, prompt-token-count
    put_bytes(place, 4, (Bytes){(u8 *)vectors, found});
    put32(place, 12, (u32)tokens);
    return place;
}
