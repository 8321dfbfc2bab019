// Reads a list of resources as JSON from stdin; writes, for each, what is wrong with it.
//
// `tsc` finds names of fields that are none and values of another type, by the declarations of
// @kubernetes-models (made from the CRDs); its `validate` finds what the schemas limit besides.
import { readFileSync } from "node:fs";
import ts from "typescript";

const PACKAGES = {
  "gateway.networking.k8s.io": "gateway-api",
  "traefik.io": "traefik",
};
const resources = JSON.parse(readFileSync(0, "utf8"));
const lines = [];
const problems = resources.map(() => []);
for (const [at, resource] of resources.entries()) {
  const name = PACKAGES[resource.apiVersion.split("/")[0]];
  const module = `@kubernetes-models/${name}/${resource.apiVersion}/${resource.kind}`;
  const model = (await import(module))[resource.kind];
  try {
    new model(resource).validate();
  } catch (error) {
    problems[at].push(error.message);
  }
  const kind = `I${resource.kind}`;
  lines.push(
    `import type { ${kind} as T${at} } from "${module}"; export const r${at}: T${at} = ${JSON.stringify(resource)};`,
  );
}
const file = `${import.meta.dirname}/resources-${process.pid}.ts`;
const host = ts.createCompilerHost({});
const readFile = host.getSourceFile;
host.getSourceFile = (path, version) =>
  path === file ? ts.createSourceFile(path, lines.join("\n"), version) : readFile(path, version);
host.fileExists = ((exists) => (path) => path === file || exists(path))(host.fileExists);
const options = {
  noEmit: true,
  strict: true,
  skipLibCheck: true,
  types: [],
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
};
const program = ts.createProgram([file], options, host);
for (const found of ts.getPreEmitDiagnostics(program)) {
  const text = ts.flattenDiagnosticMessageText(found.messageText, " ");
  const at = found.file?.fileName === file ? found.file.getLineAndCharacterOfPosition(found.start).line : -1;
  (problems[at] ?? problems[0]).push(text);
}
console.log(JSON.stringify(problems));
