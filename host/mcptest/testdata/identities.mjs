// SPDX-License-Identifier: Apache-2.0
//
// identities.mjs URL ERA TOKEN OTHER: nobody sees, uses, cancels or destroys what
// belongs to another identity.

import assert from 'node:assert/strict';
import { connect, legacy, text } from './client.mjs';

const [url, era, ...tokens] = process.argv.slice(2);

for (const wrong of [undefined, 'not-a-token-of-anybody']) {
  await assert.rejects(connect(url, era, wrong), /401|[Uu]nauthorized|token/);
}
const [owner, other] = await Promise.all(tokens.map((token) => connect(url, era, token)));
const { environment_id } = await owner.call('create_environment', { runtime: 'shell' });
const path = '/home/sandbox/secret';
await owner.call('write_file', { environment_id, path, content: 'secret' });

assert.deepEqual((await other.call('list_environments')).environments, []);
const unknown = text(await other.request('destroy_environment', { environment_id: 'env-aaaaaaaa' }));
for (const [tool, args] of [
  ['execute', { code: 'cat secret' }],
  ['read_file', { path }],
  ['write_file', { path, content: 'mine' }],
  ['list_files', {}],
  ['install_packages', { packages: 'hello' }],
  ['destroy_environment', {}],
]) {
  const r = await other.request(tool, { environment_id, ...args });
  assert.ok(r.isError, `${tool} reached another identity's environment`);
  assert.equal(text(r), unknown.replaceAll('env-aaaaaaaa', environment_id), `${tool} tells that the environment exists`);
}

// The other one would end the owner's call: by every id that it could have, without a
// session, on its own and on the owner's.
let started;
const begun = new Promise((resolve) => { started = resolve; });
const running = owner.call('execute', { environment_id, code: 'echo begun; sleep 3; echo whole' }, { onprogress: () => started() });
await begun;
const sessions = era === legacy ? [undefined, other.transport.sessionId, owner.transport.sessionId] : [undefined];
for (const session of sessions) {
  for (let requestId = 0; requestId < 20; requestId++) {
    const answer = await fetch(url, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', Authorization: `Bearer ${tokens[1]}`,
        'MCP-Protocol-Version': era, ...(session && { 'Mcp-Session-Id': session }),
      },
      body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId } }),
    });
    await answer.text();
    assert.equal(answer.status, session && session === owner.transport.sessionId ? 404 : 202);
  }
}
assert.equal((await running).stdout, 'begun\nwhole\n', "another identity's notification ended the call");

assert.equal((await owner.call('read_file', { environment_id, path })).content, 'secret');
assert.equal((await owner.call('list_environments')).environments.length, 1);
await owner.call('destroy_environment', { environment_id });
await Promise.all([owner.close(), other.close()]);
console.log(`${era}: ok`);
