// SPDX-License-Identifier: Apache-2.0
//
// count.mjs URL ERA makes 4 calls at once that send 75 notifications each: all arrive,
// in order, on their own call.

import assert from 'node:assert/strict';
import { connect } from './client.mjs';

const [url, era] = process.argv.slice(2);
const [calls, each] = [4, 75];

const c = await connect(url, era);
const seen = await Promise.all(Array.from({ length: calls }, async (_, i) => {
  // Each has its own number, which its notifications carry as their total.
  const n = each - 3 + 2 * i;
  const got = [];
  const result = await c.request('count', { n }, { onprogress: (p) => got.push(p) });
  assert.equal(result.content[0].text, `counted to ${n}`);
  assert.deepEqual(got.map((p) => p.total), Array(n).fill(n), 'notifications of another call');
  assert.deepEqual(got.map((p) => p.progress), Array.from({ length: n }, (_, k) => k + 1), 'lost or out of order');
  return got.length;
}));
await c.close();
const total = seen.reduce((a, b) => a + b);
console.log(`${era}: ${total} notifications on ${calls} calls`);
