import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';

const { SLUICE_URL, SLUICE_KEY } = process.env;
const client = new Anthropic({ baseURL: SLUICE_URL, apiKey: SLUICE_KEY, maxRetries: 0 });
const ask = { model: 'claude-1', max_tokens: 200, messages: [{ role: 'user', content: 'Hello' }] };
const tools = [{ name: 'weather', input_schema: { type: 'object', properties: { city: { type: 'string' } } } }];

test('anthropic: message', async () => {
  const r = await client.messages.create(ask);
  assert.match(r.content[0].text, /Hello/);
  assert.ok(r.usage.output_tokens > 0);
});

test('anthropic: stream', async () => {
  const stream = client.messages.stream(ask);
  let text = '';
  stream.on('text', (t) => { text += t; });
  const r = await stream.finalMessage();
  assert.match(text, /Hello/);
  assert.ok(r.usage.output_tokens > 0);
});

test('anthropic: tools', async () => {
  const r = await client.messages.create({ ...ask, tools, fake: { tool_call: true } });
  assert.equal(r.stop_reason, 'tool_use');
  assert.equal(r.content.find((c) => c.type === 'tool_use').name, 'weather');
  const s = await client.messages.stream({ ...ask, tools, fake: { tool_call: true } }).finalMessage();
  assert.equal(s.content.find((c) => c.type === 'tool_use').name, 'weather');
});

test('anthropic: count tokens, beta header, models', async () => {
  assert.ok((await client.messages.countTokens({ model: ask.model, messages: ask.messages })).input_tokens > 0);
  assert.ok((await client.beta.messages.create({ ...ask, betas: ['some-beta-2026-01-01'] })).id);
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.ok(ids.includes('claude-1'));
});

test('anthropic: typed errors', async () => {
  const bad = new Anthropic({ baseURL: SLUICE_URL, apiKey: 'sk-wrong', maxRetries: 0 });
  await assert.rejects(bad.messages.create(ask), Anthropic.AuthenticationError);
  await assert.rejects(client.messages.create({ ...ask, messages: undefined }), Anthropic.BadRequestError);
  await assert.rejects(client.messages.create({ ...ask, fake: { status: 429 } }), Anthropic.RateLimitError);
  await assert.rejects(client.messages.create({ ...ask, fake: { status: 529 } }), Anthropic.InternalServerError);
  const poor = new Anthropic({ baseURL: SLUICE_URL, apiKey: process.env.SLUICE_POOR_KEY, maxRetries: 0 });
  await assert.rejects(poor.messages.create(ask), (e) => e instanceof Anthropic.PermissionDeniedError && e.error.type === 'error');
});

test('anthropic: a cut stream is an error', async () => {
  await assert.rejects(client.messages.stream({ ...ask, fake: { chunks: 20, cut_after_chunks: 3 } }).finalMessage());
});

test('anthropic: abort', async () => {
  const stream = client.messages.stream({ ...ask, fake: { chunks: 1000, chunk_delay_ms: 20 } });
  setTimeout(() => stream.abort(), 100);
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
});
