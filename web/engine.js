"use strict";
// The engine of csrc/unmul.h in a page: one model, one text, one thread. Errors of the engine are thrown as Error.

// What the C library asks of a system: nothing is written and no file is read.
function system(memory) {
  const badFile = () => 8;  // errno "bad file descriptor", in WASI's numbers
  return {
    environ_sizes_get(count, size) { memory().setUint32(count, 0, true); memory().setUint32(size, 0, true); return 0; },
    environ_get: () => 0,
    clock_time_get(clock, precision, to) {
      memory().setBigUint64(to, BigInt(Math.round(performance.now() * 1e6)), true);
      return 0;
    },
    proc_exit(status) { throw new Error(`the engine ended with status ${status}`); },
    fd_close: badFile, fd_seek: badFile, fd_write: badFile,
  };
}

class Engine {
  // binary: a WebAssembly module built by tools/web.py; the files of a packed folder as Uint8Arrays.
  static async open(binary, {config, weights, tokenizer}) {
    const engine = new Engine();
    const view = () => new DataView(engine.c.memory.buffer);
    const fail = (code, message, size) => { throw new Error(engine.text(message, size)); };
    const {instance} = await WebAssembly.instantiate(binary, {wasi_snapshot_preview1: system(view), unmul: {fail}});
    engine.c = instance.exports;
    engine.c._initialize();
    engine.result = engine.c.malloc(64);
    engine.load(config, weights, tokenizer);
    return engine;
  }

  load(config, weights, tokenizer) {
    const c = this.c, [json, jsonSize] = this.put(config), [vocabulary, vocabularySize] = this.put(tokenizer);
    c.unmul_model_open_memory(json, jsonSize, ...this.put(weights), 1, this.result);
    this.model = this.number(this.result);
    c.unmul_tokenizer_open_memory(vocabulary, vocabularySize, this.result);
    this.tokenizer = this.number(this.result);
    c.free(json);
    c.free(vocabulary);
    this.info = this.readInfo();
    this.state = c.malloc(4 * this.info.stateValues);
    this.logits = c.malloc(4 * this.info.vocabulary);
    this.begin();
  }

  readInfo() {
    this.c.unmul_model_get_info(this.result, this.model);
    const at = field => this.number(this.result + field);
    const name = this.bytes(at(36), 64);
    return {
      layers: at(0), width: at(4), vocabulary: at(8), beginToken: at(12), endToken: at(16), weightBytes: at(24),
      stateValues: at(32), kernels: new TextDecoder().decode(name.slice(0, name.indexOf(0))),
    };
  }

  // Forgets the text.
  begin() {
    this.bytes(this.state, 4 * this.info.stateValues).fill(0);
    this.length = 0;
  }

  // Reads tokens; the logits after the last are kept for sample().
  read(tokens) {
    const [pointer] = this.put(new Uint8Array(Int32Array.from(tokens).buffer));
    this.c.unmul_forward(this.model, this.state, pointer, tokens.length, this.logits, 1);
    this.c.free(pointer);
    this.length += tokens.length;
  }

  // Chooses how sample() draws; seed is a whole number or undefined.
  draw({temperature, topK, topP, seed = crypto.getRandomValues(new Uint32Array(1))[0]}) {
    this.c.unmul_sampler_new(temperature, topK, topP, BigInt(seed), this.result);
    if (this.sampler) this.c.unmul_sampler_free(this.sampler);
    this.sampler = this.number(this.result);
  }

  sample() {
    this.c.unmul_sample(this.sampler, this.logits, this.info.vocabulary, this.result);
    return this.number(this.result);
  }

  encode(text) {
    const [bytes, size] = this.put(new TextEncoder().encode(text)), ids = this.c.malloc(4 * size + 4);
    this.c.unmul_encode(this.tokenizer, bytes, size, ids, size, this.result);
    const found = new Int32Array(this.bytes(ids, 4 * this.number(this.result)).slice().buffer);
    this.c.free(bytes);
    this.c.free(ids);
    return found;
  }

  // The bytes of a token: a part of a character perhaps.
  tokenBytes(token) {
    this.c.unmul_token_bytes(this.tokenizer, token, this.result, this.result + 4);
    return this.bytes(this.number(this.result), this.number(this.result + 4)).slice();
  }

  // Views of the engine's memory are made afresh each time: it moves when it grows.
  number(at) { return new DataView(this.c.memory.buffer).getInt32(at, true); }
  bytes(at, size) { return new Uint8Array(this.c.memory.buffer, at, size); }
  text(at, size) { return new TextDecoder().decode(this.bytes(at, size)); }

  put(bytes) {
    const at = this.c.malloc(bytes.length + 1);
    if (!at) throw new Error("not enough memory");
    this.bytes(at, bytes.length).set(bytes);
    return [at, bytes.length];
  }
}
