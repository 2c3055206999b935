// SPDX-License-Identifier: Apache-2.0

package environment

// Code lies outside the working directory, where it is in nobody's way, and must not
// notice: an interpreter looks for what is imported beside the file that it is given.
// So two of them are given a few lines that read the file instead.
//
// The lines are an argument, so that an interpreter compiles them once: a variable that
// an argument evaluates costs 10 ms more in an emulated machine.

// bootPython runs the file in __main__ with the working directory first on sys.path.
// __file__ is the file itself: multiprocessing loads it anew in a process that it
// spawns, and tracebacks read their lines from it. Its own frame is left out of the
// traceback, and none of its names stay.
const bootPython = `# Waggle: runs the file at the end
def _waggle():
    import os, sys
    sys.argv.pop(0)
    try:
        sys.path[0] = os.getcwd()
    except OSError:
        pass
    file = globals()["__file__"] = sys.argv[0]
    def hook(kind, value, trace):
        while trace and trace.tb_frame.f_code.co_filename == "<string>" and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        sys.__excepthook__(kind, value.with_traceback(trace), trace)
    sys.excepthook = hook
    with open(file, "rb") as f:
        return compile(f.read(), file, "exec", dont_inherit=True)
exec(globals().pop("_waggle")())
`

// bootNode runs the file as if it lay in the working directory: so require, import()
// and __dirname find what lies there, and require.main is the module. What is
// written as an ES module node itself has to load, from where it lies; relative
// imports of it are led to the working directory where node has hooks for that.
const bootNode = `// Waggle: runs the file at the end
"use strict";
{
const Module = require("module"), path = require("path"), fs = require("fs"), vm = require("vm"), url = require("url");
const real = process.argv[1], cwd = process.cwd(), name = path.join(cwd, path.basename(real));
const src = fs.readFileSync(real, "utf8").replace(/^\uFEFF?#!.*/, "");
let esm = false;
if (/\b(import|export|await)\b/.test(src)) {
  try { new vm.Script(Module.wrap(src)); } catch { esm = true; }
}
process.execArgv = [];
delete process._eval;
for (const n of ["module", "exports", "require", "__filename", "__dirname"]) delete globalThis[n];
if (esm) {
  const from = url.pathToFileURL(real).href, to = url.pathToFileURL(name).href;
  const lead = "(s, c, next) => next(s, c.parentURL === " + JSON.stringify(from) + " ? { ...c, parentURL: " + JSON.stringify(to) + " } : c)";
  if (Module.registerHooks) Module.registerHooks({ resolve: vm.runInThisContext(lead) });
  else if (Module.register) Module.register("data:text/javascript," + encodeURIComponent("export const resolve = " + lead));
  Module.runMain(real);
} else {
  process.argv[1] = name;
  const m = new Module(name, null);
  m.id = "."; m.filename = name; m.paths = Module._nodeModulePaths(cwd);
  process.mainModule = m; Module._cache[name] = m;
  m._compile(src, name);
  m.loaded = true;
}
}
`
