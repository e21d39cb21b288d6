import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';

const { SLUICE_URL, SLUICE_KEY } = process.env;
const client = new OpenAI({ baseURL: `${SLUICE_URL}/v1`, apiKey: SLUICE_KEY, maxRetries: 0 });
const messages = [{ role: 'user', content: 'Hello' }];
const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } } }];

test('openai: chat', async () => {
  const r = await client.chat.completions.create({ model: 'chat-1', messages });
  assert.match(r.choices[0].message.content, /Hello/);
  assert.ok(r.usage.total_tokens > 0);
  assert.ok(r._request_id);
});

test('openai: chat stream', async () => {
  const stream = await client.chat.completions.create({ model: 'chat-1', messages, stream: true });
  let text = '';
  for await (const chunk of stream) {
    assert.equal(chunk.usage ?? null, null, 'usage that was not asked for');
    text += chunk.choices[0]?.delta?.content ?? '';
  }
  assert.match(text, /Hello/);
});

test('openai: chat stream with usage', async () => {
  const stream = await client.chat.completions.create({ model: 'chat-1', messages, stream: true, stream_options: { include_usage: true } });
  let usage;
  for await (const chunk of stream) usage = chunk.usage ?? usage;
  assert.ok(usage.total_tokens > 0);
});

test('openai: tools', async () => {
  const r = await client.chat.completions.create({ model: 'chat-1', messages, tools, fake: { tool_call: true } });
  assert.equal(r.choices[0].message.tool_calls[0].function.name, 'weather');
  JSON.parse(r.choices[0].message.tool_calls[0].function.arguments);
});

test('openai: tools streamed', async () => {
  const runner = client.chat.completions.stream({ model: 'chat-1', messages, tools, fake: { tool_call: true } });
  const r = await runner.finalChatCompletion();
  assert.equal(r.choices[0].message.tool_calls[0].function.name, 'weather');
});

test('openai: completions, embeddings, moderations', async () => {
  assert.ok((await client.completions.create({ model: 'chat-1', prompt: 'Hello' })).choices[0].text);
  const e = await client.embeddings.create({ model: 'embed-1', input: ['a', 'b'], encoding_format: 'float' });
  assert.equal(e.data.length, 2);
  assert.equal((await client.moderations.create({ model: 'chat-1', input: 'Hello' })).results.length, 1);
});

test('openai: responses', async () => {
  const r = await client.responses.create({ model: 'chat-1', input: 'Hello' });
  assert.match(r.output_text, /Hello/);
  let text = '', done = false;
  for await (const ev of await client.responses.create({ model: 'chat-1', input: 'Hello', stream: true })) {
    if (ev.type === 'response.output_text.delta') text += ev.delta;
    if (ev.type === 'response.completed') done = ev.response.usage.total_tokens > 0;
  }
  assert.match(text, /Hello/);
  assert.ok(done);
});

test('openai: uploads and binary answers', async () => {
  const audio = await toFile(Buffer.alloc(5000, 7), 'speech.mp3', { type: 'audio/mpeg' });
  assert.ok((await client.audio.transcriptions.create({ model: 'chat-1', file: audio })).text);
  assert.ok((await client.audio.translations.create({ model: 'chat-1', file: audio })).text);
  const image = await toFile(Buffer.alloc(5000, 9), 'cat.png', { type: 'image/png' });
  assert.ok((await client.images.edit({ model: 'chat-1', image, prompt: 'a hat' })).data.length > 0);
  assert.ok((await client.images.generate({ model: 'chat-1', prompt: 'a cat' })).data.length > 0);
  const speech = await client.audio.speech.create({ model: 'chat-1', input: 'Hello', voice: 'alloy' });
  assert.ok((await speech.arrayBuffer()).byteLength > 0);
});

test('openai: models', async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.ok(ids.includes('chat-1'));
  assert.equal((await client.models.retrieve('chat-1')).id, 'chat-1');
  await assert.rejects(client.models.retrieve('no-such-model'), OpenAI.NotFoundError);
});

test('openai: typed errors', async () => {
  const bad = new OpenAI({ baseURL: `${SLUICE_URL}/v1`, apiKey: 'sk-wrong', maxRetries: 0 });
  await assert.rejects(bad.chat.completions.create({ model: 'chat-1', messages }), OpenAI.AuthenticationError);
  await assert.rejects(client.chat.completions.create({ model: 'chat-1' }), OpenAI.BadRequestError);
  await assert.rejects(client.chat.completions.create({ model: 'chat-1', messages, fake: { status: 429 } }), OpenAI.RateLimitError);
  await assert.rejects(client.chat.completions.create({ model: 'chat-1', messages, fake: { status: 500 } }), OpenAI.InternalServerError);
  await assert.rejects(client.chat.completions.create({ model: 'no-such-model', messages }), (e) => e instanceof OpenAI.InternalServerError && e.status === 503 && e.code === 'model_not_found');
  const poor = new OpenAI({ baseURL: `${SLUICE_URL}/v1`, apiKey: process.env.SLUICE_POOR_KEY, maxRetries: 0 });
  await assert.rejects(poor.chat.completions.create({ model: 'chat-1', messages }), (e) => e instanceof OpenAI.PermissionDeniedError && /quota/.test(e.code));
});

test('openai: a cut stream is an error', async () => {
  const stream = await client.chat.completions.create({ model: 'chat-1', messages, stream: true, fake: { chunks: 20, cut_after_chunks: 3 } });
  await assert.rejects(async () => { for await (const _ of stream); });
});

test('openai: abort', async () => {
  const stream = await client.chat.completions.create({ model: 'chat-1', messages, stream: true, fake: { chunks: 1000, chunk_delay_ms: 20 } });
  let n = 0;
  for await (const _ of stream) if (++n === 3) break;
  const gone = new AbortController();
  const pending = client.chat.completions.create({ model: 'chat-1', messages, fake: { hang: true } }, { signal: gone.signal });
  setTimeout(() => gone.abort(), 50);
  await assert.rejects(pending, OpenAI.APIUserAbortError);
});
