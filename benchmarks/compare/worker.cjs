// One model from npm alone in a process, for compare.py: `node worker.cjs face-api|human FOLDER`; FOLDER holds
// node_modules. Jobs and results are those of worker.py. TensorFlow.js uses its WebAssembly backend (SIMD, one thread
// under node).
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const { createRequire } = require("module");

const [name, folder] = process.argv.slice(2);
const load = createRequire(path.join(path.resolve(folder), "package.json"));
const modules = path.join(path.resolve(folder), "node_modules");
const tf = load("@tensorflow/tfjs");
const wasm = load("@tensorflow/tfjs-backend-wasm");
console.log = console.error; // what libraries print must not be taken for a result
const send = (value) => process.stdout.write(JSON.stringify(value) + "\n");

// face-api: its expression network takes a tensor of one face and does the rest
async function faceApi() {
  const { nets } = load("@vladmandic/face-api/dist/face-api.node-wasm.js");
  const models = path.join(modules, "@vladmandic/face-api/model");
  await nets.faceExpressionNet.loadFromDisk(models);
  const classes = ["neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised"];
  const classify = async (face) => {
    const found = await nets.faceExpressionNet.predictExpressions(face);
    return classes.map((c) => found[c]);
  };
  return { classify, classes, file: path.join(models, "face_expression_model.bin"), package: "face-api" };
}

// human: its emotion model on what the library feeds it: a bilinear resize, grey by 0.2989 0.587 0.114, from -1 to 1
async function human() {
  const file = path.join(modules, "@vladmandic/human/models/emotion.bin");
  const { modelTopology, weightsManifest } = JSON.parse(fs.readFileSync(file.replace(".bin", ".json")));
  const bytes = fs.readFileSync(file);
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const parts = { modelTopology, weightSpecs: weightsManifest[0].weights, weightData };
  const model = await tf.loadGraphModel({ load: async () => parts });
  const [, size] = model.inputs[0].shape;
  const classify = async (face) => {
    const scores = tf.tidy(() => {
      const small = tf.image.resizeBilinear(tf.div(face.expandDims(0), 255), [size, size], false);
      const grey = tf.sum(tf.mul(small, [0.2989, 0.587, 0.114]), 3, true);
      return model.execute(tf.mul(tf.sub(grey, 0.5), 2));
    });
    const data = await scores.data();
    scores.dispose();
    return Array.from(data);
  };
  const classes = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
  return { classify, classes, file, package: "human" };
}

async function main() {
  wasm.setWasmPaths(path.join(modules, "@tensorflow/tfjs-backend-wasm/dist/"));
  await tf.setBackend("wasm");
  await tf.ready();
  const model = await { "face-api": faceApi, human }[name]();
  const { version } = JSON.parse(fs.readFileSync(path.join(modules, "@vladmandic", model.package, "package.json")));
  send({ classes: model.classes, bytes: fs.statSync(model.file).size, version });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { faces, shape, scores, calls } = JSON.parse(line);
    const [n, height, width, channels] = shape;
    const pixels = fs.readFileSync(faces);
    const each = height * width * channels;
    const classify = async (i) => {
      const values = new Int32Array(pixels.subarray(i * each, (i + 1) * each));
      const face = tf.tensor(values, [height, width, channels], "int32");
      const found = await model.classify(face);
      face.dispose();
      return found;
    };
    if (calls) {
      const ms = [];
      for (let i = 0; i < calls; i++) {
        const start = performance.now();
        await classify(i % n);
        ms.push(performance.now() - start);
      }
      send({ ms });
    } else {
      const out = new Float32Array(n * model.classes.length);
      for (let i = 0; i < n; i++) out.set(await classify(i), i * model.classes.length);
      fs.writeFileSync(scores, Buffer.from(out.buffer));
      send({ done: n });
    }
  }
}

main();
