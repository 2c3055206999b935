// SPDX-License-Identifier: Apache-2.0
//
// machine.mjs URL ERA [TOKEN] does with a machine what an agent does.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { connect, modern, text } from './client.mjs';

const [url, era, token] = process.argv.slice(2);
const c = await connect(url, era, token);
if (era === modern) {
  assert.equal(c.transport.sessionId, undefined, 'the newer era has no sessions');
} else {
  assert.ok(c.transport.sessionId);
}
const { tools } = await c.client.listTools();
const names = tools.map((t) => t.name);
for (const name of ['create_environment', 'execute', 'install_packages', 'write_file', 'read_file', 'list_files', 'list_environments', 'destroy_environment']) {
  assert.ok(names.includes(name), name);
}
assert.deepEqual((await c.client.listTools()).tools.map((t) => t.name), names, 'the order of the tools is stable');
assert.match(c.client.getInstructions(), /create_environment/);

const steps = [];
const { environment_id } = await c.call('create_environment', { runtime: 'python', name: 'clients' }, { onprogress: (p) => steps.push(p.message) });
assert.ok(steps.length > 0, 'nothing was said while the machine was made');

await inOrder();
await binary();
await aborted();

const bad = await c.request('execute', { environment_id, code: 'x', timeout: 5 });
assert.ok(bad.isError);
assert.match(text(bad), /timeout_seconds/);
await c.call('destroy_environment', { environment_id });
assert.ok((await c.request('execute', { environment_id, code: '1' })).isError, 'it is destroyed');
await c.close();
console.log(`${era}: ok`);

// inOrder: what the code writes comes while it runs, all of it, in order.
async function inOrder() {
  const got = [];
  const code = 'import time\nfor i in range(300): print(i, flush=True); time.sleep(0.005)\nraise SystemExit(3)';
  const began = Date.now();
  let first;
  const r = await c.call('execute', { environment_id, code }, {
    onprogress: (p) => { first ??= Date.now(); got.push(p); },
  });
  assert.equal(r.exit_code, 3);
  assert.equal(r.stdout, Array.from({ length: 300 }, (_, i) => `${i}\n`).join(''));
  assert.equal(got.map((p) => p.message).join(''), r.stdout);
  assert.deepEqual(got.map((p) => p.progress), got.map((_, i) => i + 1));
  assert.ok(got.length > 20, `only ${got.length} notifications`);
  assert.ok(Date.now() - first > (Date.now() - began) / 10, 'all came at the end');
}

// binary: bytes that are no text are the same after they were in the machine.
async function binary() {
  const content = randomBytes(200_000).toString('base64');
  const path = '/home/sandbox/binary';
  const w = await c.call('write_file', { environment_id, path, content, encoding: 'base64' });
  assert.equal(w.size, 200_000);
  const r = await c.call('read_file', { environment_id, path });
  assert.equal(r.encoding, 'base64');
  assert.equal(r.content, content);
  await c.call('write_file', { environment_id, path: '/home/sandbox/text', content: 'hé\n' });
  assert.equal((await c.call('read_file', { environment_id, path: '/home/sandbox/text' })).content, 'hé\n');
}

// aborted: the processes of a call that is given up are gone within a second, those
// that they started in sessions of their own too, and the environment lives on. Another
// call watches from inside, so that no start of a process is part of the time.
async function aborted() {
  const count = "pgrep -cf '^sleep 9876[5]'";
  const watching = new AbortController();
  let alive = -1;
  let changed = () => {};
  const watcher = c.request('execute', {
    environment_id, language: 'shell', timeout_seconds: 120, code: `while :; do ${count}; sleep 0.02; done`,
  }, {
    signal: watching.signal,
    onprogress: (p) => { alive = Number(p.message.trim().split('\n').at(-1)); changed(); },
  });
  const becomes = (n, within) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${alive} processes, not ${n}, after ${within} ms`)), within);
    changed = () => { if (alive === n) { clearTimeout(timer); resolve(); } };
    changed();
  });
  await becomes(0, 30_000);
  const running = new AbortController();
  const call = c.request('execute', {
    environment_id, language: 'shell', timeout_seconds: 120, code: 'setsid sleep 98765 & sleep 98765 & sleep 98765 & wait',
  }, { signal: running.signal, onprogress: () => {} });
  const failed = assert.rejects(call);
  await becomes(3, 30_000);
  const began = Date.now();
  running.abort();
  await becomes(0, 1000);
  console.log(`${era}: gone ${Date.now() - began} ms after the abort`);
  await failed;
  watching.abort();
  await assert.rejects(watcher);
  assert.equal((await c.call('execute', { environment_id, code: 'print(6*7)' })).stdout, '42\n');
}
