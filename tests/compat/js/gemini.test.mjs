import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError, GoogleGenAI } from '@google/genai';

const { SLUICE_URL, SLUICE_KEY } = process.env;
const genai = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: SLUICE_URL, apiVersion: 'v1beta' } });
const ai = genai(SLUICE_KEY);
const ask = { model: 'gemini-1', contents: 'Hello' };
const fake = (knobs) => ({ httpOptions: { extraBody: { fake: knobs } } });
const functions = [{ functionDeclarations: [{ name: 'weather', parameters: { type: 'OBJECT', properties: { city: { type: 'STRING' } } } }] }];

test('gemini: generate', async () => {
  const r = await ai.models.generateContent(ask);
  assert.match(r.text, /Hello/);
  assert.ok(r.usageMetadata.totalTokenCount > 0);
});

test('gemini: stream', async () => {
  let text = '', usage;
  for await (const chunk of await ai.models.generateContentStream(ask)) {
    text += chunk.text ?? '';
    usage = chunk.usageMetadata ?? usage;
  }
  assert.match(text, /Hello/);
  assert.ok(usage.totalTokenCount > 0);
});

test('gemini: functions', async () => {
  const r = await ai.models.generateContent({ ...ask, config: { tools: functions, ...fake({ tool_call: true }) } });
  assert.equal(r.functionCalls[0].name, 'weather');
});

test('gemini: count tokens, embeddings, models', async () => {
  assert.ok((await ai.models.countTokens(ask)).totalTokens > 0);
  const e = await ai.models.embedContent({ model: 'gemini-embed-1', contents: 'Hello' });
  assert.ok(e.embeddings[0].values.length > 0);
  const names = [];
  for await (const m of await ai.models.list()) names.push(m.name);
  assert.ok(names.some((n) => n.endsWith('gemini-1')), names.join());
});

test('gemini: typed errors', async () => {
  const is = (status) => (e) => e instanceof ApiError && e.status === status;
  await assert.rejects(genai('sk-wrong').models.generateContent(ask), is(401));
  await assert.rejects(ai.models.generateContent({ ...ask, config: fake({ status: 429 }) }), is(429));
  await assert.rejects(ai.models.generateContent({ model: 'no-such-model', contents: 'Hello' }), is(503));
  await assert.rejects(genai(process.env.SLUICE_POOR_KEY).models.generateContent(ask), is(403));
});

test('gemini: a cut stream is an error', async () => {
  const stream = await ai.models.generateContentStream({ ...ask, config: fake({ chunks: 20, cut_after_chunks: 3 }) });
  await assert.rejects(async () => { for await (const _ of stream); });
});

test('gemini: abort', async () => {
  const gone = new AbortController();
  setTimeout(() => gone.abort(), 100);
  await assert.rejects(ai.models.generateContent({ ...ask, config: { abortSignal: gone.signal, ...fake({ hang: true }) } }));
});
