// What an ONNX file says of itself. ONNX Runtime's web build does not give its metadata out.

/**
 * The metadata of an ONNX file (protobuf: ModelProto.metadata_props, field 14) as {key: value}.
 *
 * Throws where the bytes are no protobuf message.
 */
export function readMetadata(bytes) {
  const notes = {};
  for (const [number, value] of fields(bytes)) {
    if (number !== 14) continue;
    const pair = Object.fromEntries(fields(value));
    const [key, text] = [pair[1], pair[2]].map((part) => new TextDecoder().decode(part));
    notes[key] = text;
  }
  return notes;
}

/** The fields of a protobuf message: [number, bytes], or [number, null] of those of fixed size. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      if (at >= bytes.length || shift > 2 ** 63) throw new Error("no protobuf");
      const byte = bytes[at++];
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag % 8;
    let length = { 1: 8, 5: 4 }[kind] ?? 0;
    if (kind === 0) varint();
    else if (kind === 2) length = varint();
    else if (!length) throw new Error("no protobuf");
    if (at + length > bytes.length) throw new Error("cut off");
    yield [Math.floor(tag / 8), kind === 2 ? bytes.subarray(at, at + length) : null];
    at += length;
  }
}
