//! Says measures in the reader's units: `x-units: metric` turns "10 miles" into "16 km", `x-units: imperial` the reverse.
//!
//! One stored answer serves both. Only the texts of messages are touched; a number keeps about as many digits as it had,
//! and at least two. A word that is a unit but stands behind no number stays.
const std = @import("std");
const edgecache = @import("edgecache.zig");

const Unit = struct { names: []const []const u8, to: []const u8, factor: f64, offset: f64 = 0 };

/// US customary and imperial units, by their definitions in metres, kilograms and kelvins (NIST SP 811, appendix B).
const imperial = [_]Unit{
    .{ .names = &.{ "miles", "mile", "mi" }, .to = "km", .factor = 1.609344 },
    .{ .names = &.{ "yards", "yard", "yd" }, .to = "m", .factor = 0.9144 },
    .{ .names = &.{ "feet", "foot", "ft" }, .to = "m", .factor = 0.3048 },
    .{ .names = &.{ "inches", "inch" }, .to = "cm", .factor = 2.54 },
    .{ .names = &.{ "pounds", "pound", "lbs", "lb" }, .to = "kg", .factor = 0.45359237 },
    .{ .names = &.{ "ounces", "ounce", "oz" }, .to = "g", .factor = 28.349523125 },
    .{ .names = &.{ "gallons", "gallon" }, .to = "litres", .factor = 3.785411784 },
    .{ .names = &.{ "mph" }, .to = "km/h", .factor = 1.609344 },
    .{ .names = &.{ "\u{b0}F", "degrees Fahrenheit" }, .to = "\u{b0}C", .factor = 5.0 / 9.0, .offset = -160.0 / 9.0 },
};

const metric = [_]Unit{
    .{ .names = &.{ "kilometres", "kilometers", "kilometre", "kilometer", "km" }, .to = "miles", .factor = 1.0 / 1.609344 },
    .{ .names = &.{ "metres", "meters", "metre", "meter", "m" }, .to = "feet", .factor = 1.0 / 0.3048 },
    .{ .names = &.{ "centimetres", "centimeters", "centimetre", "centimeter", "cm" }, .to = "inches", .factor = 1.0 / 2.54 },
    .{ .names = &.{ "kilograms", "kilogram", "kg" }, .to = "pounds", .factor = 1.0 / 0.45359237 },
    .{ .names = &.{ "grams", "gram", "g" }, .to = "ounces", .factor = 1.0 / 28.349523125 },
    .{ .names = &.{ "litres", "liters", "litre", "liter" }, .to = "gallons", .factor = 1.0 / 3.785411784 },
    .{ .names = &.{ "km/h", "kph" }, .to = "mph", .factor = 1.0 / 1.609344 },
    .{ .names = &.{ "\u{b0}C", "degrees Celsius" }, .to = "\u{b0}F", .factor = 9.0 / 5.0, .offset = 32 },
};

const Number = struct { value: f64, digits: u32, size: usize };

/// The number at the beginning of `text`: digits, thousands separated by commas, a point and more digits.
fn numberAt(text: []const u8) ?Number {
    var value: f64 = 0;
    var scale: f64 = 0;
    var digits: u32 = 0;
    var zeros: u32 = 0; // at its end, before any point: they say little
    var size: usize = 0;
    for (text, 0..) |c, i| {
        if (std.ascii.isDigit(c)) {
            value = value * 10 + @as(f64, @floatFromInt(c - '0'));
            scale *= 10;
            if (digits > 0 or c != '0') digits += 1;
            zeros = if (c == '0' and scale == 0) zeros + 1 else 0;
            size = i + 1;
        } else if (c == '.' and scale == 0 and size == i and i > 0) {
            scale = 1;
        } else if (c != ',' or scale > 0 or size != i or !isThousand(text[i + 1 ..])) {
            break;
        }
    }
    if (size == 0 or digits > 15) return null;
    if (scale > 0 and text[size - 1] != '.') value /= scale;
    return .{ .value = value, .digits = digits -| zeros, .size = size };
}

fn isThousand(text: []const u8) bool {
    if (text.len < 3) return false;
    for (text[0..3]) |c| if (!std.ascii.isDigit(c)) return false;
    return text.len == 3 or !std.ascii.isDigit(text[3]);
}

/// The unit that `text` begins with as a whole word, and how much of it that is.
fn unitAt(text: []const u8, units: []const Unit) ?struct { unit: Unit, size: usize } {
    for (units) |unit| for (unit.names) |name| {
        if (!std.mem.startsWith(u8, text, name)) continue;
        if (text.len > name.len and (std.ascii.isAlphanumeric(text[name.len]) or text[name.len] == '/')) continue;
        return .{ .unit = unit, .size = name.len };
    };
    return null;
}

fn writeNumber(answer: *edgecache.Answer, value: f64, digits: u32) void {
    const size = @abs(value);
    var decimals: u32 = 0;
    var reach: f64 = 1;
    while (decimals < 3 and size > 0 and size * reach < std.math.pow(f64, 10, @floatFromInt(@max(digits, 2) - 1))) : (decimals += 1) reach *= 10;
    var rest: u64 = @intFromFloat(@round(size * reach));
    while (decimals > 0 and rest % 10 == 0) : (decimals -= 1) rest /= 10;
    var made: [24]u8 = undefined;
    var at = made.len;
    var written: u32 = 0;
    while (rest > 0 or written <= decimals) : (written += 1) {
        if (written == decimals and decimals > 0) {
            at -= 1;
            made[at] = '.';
        }
        at -= 1;
        made[at] = '0' + @as(u8, @intCast(rest % 10));
        rest /= 10;
    }
    if (value < 0) answer.write("-");
    answer.write(made[at..]);
}

/// Writes the inside of a JSON string; how many measures it changed.
fn translate(answer: *edgecache.Answer, text: []const u8, units: []const Unit) u32 {
    var changed: u32 = 0;
    var kept: usize = 0;
    var edge: usize = 0; // a word may begin here, whatever letter the escape before it ended with
    var i: usize = 0;
    while (i < text.len) {
        if (text[i] == '\\') {
            i += if (i + 1 < text.len and text[i + 1] == 'u') 6 else 2;
            edge = i;
            continue;
        }
        const free = i == edge or !(std.ascii.isAlphanumeric(text[i - 1]) or text[i - 1] == '.' or text[i - 1] == ',');
        const number = if (free and std.ascii.isDigit(text[i])) numberAt(text[i..]) else null;
        if (number == null) {
            i += 1;
            continue;
        }
        var after = i + number.?.size;
        if (after < text.len and (text[after] == ' ' or text[after] == '-')) after += 1;
        const found = unitAt(text[after..], units) orelse {
            i += number.?.size;
            continue;
        };
        const below = i > 0 and text[i - 1] == '-' and (i == 1 or text[i - 2] == ' ');
        const value = if (below) -number.?.value else number.?.value;
        answer.write(text[kept .. i - @intFromBool(below)]);
        writeNumber(answer, value * found.unit.factor + found.unit.offset, number.?.digits);
        answer.write(text[i + number.?.size .. after]);
        answer.write(found.unit.to);
        i = after + found.size;
        kept = i;
        changed += 1;
    }
    answer.write(text[kept..]);
    return changed;
}

fn stringEnd(body: []const u8, from: usize) usize {
    var i = from;
    while (i < body.len and body[i] != '"') i += if (body[i] == '\\') 2 else 1;
    return @min(i, body.len);
}

export fn handle(at: [*]const u8, size: usize) u64 {
    const request = edgecache.Request.of(at[0..size]);
    const wanted = request.header("x-units") orelse return edgecache.unchanged;
    const units: []const Unit = if (std.mem.eql(u8, wanted, "metric")) &imperial else if (std.mem.eql(u8, wanted, "imperial")) &metric else return edgecache.unchanged;

    var answer: edgecache.Answer = .{};
    answer.write("200\ncontent-type: application/json\nx-units: ");
    answer.write(wanted);
    answer.write("\n\n");
    const body = request.body;
    var changed: u32 = 0;
    var kept: usize = 0;
    var i: usize = 0;
    while (i < body.len) : (i += 1) {
        if (body[i] != '"') continue;
        const name = body[i + 1 .. stringEnd(body, i + 1)];
        i += name.len + 1;
        if (!std.mem.eql(u8, name, "content") and !std.mem.eql(u8, name, "text")) continue;
        const colon = std.mem.indexOfNonePos(u8, body, i + 1, " \t\r\n") orelse break;
        if (body[colon] != ':') continue;
        const quote = std.mem.indexOfNonePos(u8, body, colon + 1, " \t\r\n") orelse break;
        if (body[quote] != '"') continue;
        const end = stringEnd(body, quote + 1);
        answer.write(body[kept .. quote + 1]);
        changed += translate(&answer, body[quote + 1 .. end], units);
        kept = end;
        i = end;
    }
    answer.write(body[@min(kept, body.len)..]);
    return if (changed == 0) edgecache.unchanged else answer.done();
}
