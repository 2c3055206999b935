// SPDX-License-Identifier: Apache-2.0
//
// The official clients of both eras, behind the same few functions.

import assert from 'node:assert/strict';
import { Client as Modern, StreamableHTTPClientTransport as ModernHTTP } from '@modelcontextprotocol/client';
import { Client as Legacy } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as LegacyHTTP } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

export const legacy = '2025-11-25';
export const modern = '2026-07-28';

// callLimit is beyond the longest call of any test.
const callLimit = 120_000;

// connect returns a client that speaks this era to the server.
export async function connect(url, era, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const info = { name: 'waggle-test', version: '1' };
  const isModern = era === modern;
  const client = isModern
    ? new Modern(info, { versionNegotiation: { mode: 'auto' } })
    : new Legacy(info);
  const transport = new (isModern ? ModernHTTP : LegacyHTTP)(new URL(url), { requestInit: { headers } });
  await client.connect(transport);
  assert.equal(isModern ? client.getNegotiatedProtocolVersion() : transport.protocolVersion, era);

  // request calls a tool; whatever the tool says is returned.
  const request = (name, args, options = {}) => {
    options = { timeout: callLimit, ...options };
    const params = { name, arguments: args };
    return isModern ? client.callTool(params, options) : client.callTool(params, undefined, options);
  };
  return {
    client, transport, request,
    // call calls a tool that must succeed, and returns its structured result.
    async call(name, args = {}, options) {
      const result = await request(name, args, options);
      assert.ok(!result.isError, `${name}: ${text(result)}`);
      return result.structuredContent;
    },
    close: () => client.close(),
  };
}

// text is what a result says to a model.
export const text = (result) => result.content.map((c) => c.text ?? '').join('\n');
