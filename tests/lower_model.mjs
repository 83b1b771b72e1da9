// node lower_model.mjs MODEL PRECISION CHROMA FOLDER: writes the descriptions of a model file.
import { readFileSync, writeFileSync } from "node:fs";
import { describe, describeInterpolation, readModel } from "../src/web/model.mjs";

const [file, precision, chroma, folder] = process.argv.slice(2);
const model = readModel(readFileSync(file));
writeFileSync(`${folder}/description`, describe(model, precision, chroma));
writeFileSync(`${folder}/interpolation`, describeInterpolation(model.spec, chroma));
