//! Fills in {{name}} in answers as they leave the POP, from the client's `x-user` header.
//!
//! The answer in the cache keeps its {{name}}: one stored answer serves everybody. The body is JSON; {{name}} is looked
//! for in its text as it is, and what replaces it is escaped, so the JSON stays JSON.
const std = @import("std");
const edgecache = @import("edgecache.zig");

const placeholder = "{{name}}";

export fn handle(at: [*]const u8, size: usize) u64 {
    const request = edgecache.Request.of(at[0..size]);
    if (std.mem.indexOf(u8, request.body, placeholder) == null) return edgecache.unchanged;

    const name = request.header("x-user") orelse "there";
    var answer: edgecache.Answer = .{};
    answer.write("200\ncontent-type: application/json\nx-personalised: yes\n\n");
    var parts = std.mem.splitSequence(u8, request.body, placeholder);
    answer.write(parts.first());
    while (parts.next()) |part| {
        answer.writeJson(name);
        answer.write(part);
    }
    return answer.done();
}
