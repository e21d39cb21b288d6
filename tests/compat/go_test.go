package compat

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"google.golang.org/genai"
)

func TestGoSDKs(t *testing.T) {
	s := newSite(t)
	t.Run("openai", func(t *testing.T) { testOpenAI(t, s) })
	t.Run("anthropic", func(t *testing.T) { testAnthropic(t, s) })
	t.Run("genai", func(t *testing.T) { testGenAI(t, s) })
}

func testOpenAI(t *testing.T, s site) {
	ctx := t.Context()
	client := openai.NewClient(openaioption.WithBaseURL(s.url+"/v1/"), openaioption.WithAPIKey(s.key), openaioption.WithMaxRetries(0))
	ask := openai.ChatCompletionNewParams{Model: "chat-1", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello")}}
	r, err := client.Chat.Completions.New(ctx, ask)
	if err != nil || !strings.Contains(r.Choices[0].Message.Content, "Hello") || r.Usage.TotalTokens == 0 {
		t.Fatalf("chat: %v %+v", err, r)
	}
	stream := client.Chat.Completions.NewStreaming(ctx, ask)
	var text strings.Builder
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			text.WriteString(c.Delta.Content)
		}
	}
	if stream.Err() != nil || !strings.Contains(text.String(), "Hello") {
		t.Errorf("stream: %v %q", stream.Err(), text.String())
	}
	r, err = client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{Model: "chat-1", Messages: ask.Messages, Tools: []openai.ChatCompletionToolUnionParam{
		openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "weather", Parameters: openai.FunctionParameters{"type": "object"}}),
	}}, openaioption.WithJSONSet("fake", map[string]any{"tool_call": true}))
	if err != nil || len(r.Choices[0].Message.ToolCalls) != 1 || r.Choices[0].Message.ToolCalls[0].Function.Name != "weather" {
		t.Errorf("tools: %v %+v", err, r)
	}
	if e, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: "embed-1", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "b"}}}); err != nil || len(e.Data) != 2 {
		t.Errorf("embeddings: %v", err)
	}
	if a, err := client.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{Model: "chat-1", File: openai.File(bytes.NewReader(make([]byte, 5000)), "speech.mp3", "audio/mpeg")}); err != nil || a.Text == "" {
		t.Errorf("transcription: %v", err)
	}
	if i, err := client.Images.Edit(ctx, openai.ImageEditParams{Model: "chat-1", Prompt: "a hat", Image: openai.ImageEditParamsImageUnion{OfFile: openai.File(bytes.NewReader(make([]byte, 5000)), "cat.png", "image/png")}}); err != nil || len(i.Data) == 0 {
		t.Errorf("image edit: %v", err)
	}
	for status, opts := range map[int][]openaioption.RequestOption{
		401: {openaioption.WithAPIKey("sk-wrong")}, 403: {openaioption.WithAPIKey(s.poor)},
		429: {openaioption.WithJSONSet("fake", map[string]any{"status": 429})}, 500: {openaioption.WithJSONSet("fake", map[string]any{"status": 500})},
		400: {openaioption.WithJSONSet("max_tokens", "many")},
	} {
		_, err := client.Chat.Completions.New(ctx, ask, opts...)
		var e *openai.Error
		if !errors.As(err, &e) || e.StatusCode != status || e.Message == "" {
			t.Errorf("status %d: %v", status, err)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	stream = client.Chat.Completions.NewStreaming(gone, ask, openaioption.WithJSONSet("fake", map[string]any{"chunks": 1000, "chunk_delay_ms": 20}))
	if !stream.Next() {
		t.Fatalf("abort: %v", stream.Err())
	}
	cancel()
	for stream.Next() {
	}
	if !errors.Is(stream.Err(), context.Canceled) {
		t.Errorf("abort: %v", stream.Err())
	}
}

func testAnthropic(t *testing.T, s site) {
	ctx := t.Context()
	client := anthropic.NewClient(anthropicoption.WithBaseURL(s.url), anthropicoption.WithAPIKey(s.key), anthropicoption.WithMaxRetries(0))
	ask := anthropic.MessageNewParams{Model: "claude-1", MaxTokens: 200, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hello"))}}
	r, err := client.Messages.New(ctx, ask)
	if err != nil || !strings.Contains(r.Content[0].Text, "Hello") || r.Usage.OutputTokens == 0 {
		t.Fatalf("message: %v %+v", err, r)
	}
	stream := client.Messages.NewStreaming(ctx, ask)
	var message anthropic.Message
	for stream.Next() {
		if err := message.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if stream.Err() != nil || !strings.Contains(message.Content[0].Text, "Hello") || message.StopReason == "" {
		t.Errorf("stream: %v %+v", stream.Err(), message)
	}
	if n, err := client.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: "claude-1", Messages: ask.Messages}); err != nil || n.InputTokens == 0 {
		t.Errorf("count tokens: %v", err)
	}
	for status, opts := range map[int][]anthropicoption.RequestOption{
		401: {anthropicoption.WithAPIKey("sk-wrong")}, 403: {anthropicoption.WithAPIKey(s.poor)},
		529: {anthropicoption.WithJSONSet("fake", map[string]any{"status": 529})}, 400: {anthropicoption.WithJSONSet("max_tokens", "many")},
	} {
		_, err := client.Messages.New(ctx, ask, opts...)
		var e *anthropic.Error
		if !errors.As(err, &e) || e.StatusCode != status || !strings.Contains(e.RawJSON(), `"type":"error"`) {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func testGenAI(t *testing.T, s site) {
	ctx := t.Context()
	client := func(key string) *genai.Client {
		c, err := genai.NewClient(ctx, &genai.ClientConfig{APIKey: key, Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: s.url, APIVersion: "v1beta"}, HTTPClient: &http.Client{}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := client(s.key)
	r, err := c.Models.GenerateContent(ctx, "gemini-1", genai.Text("Hello"), nil)
	if err != nil || !strings.Contains(r.Text(), "Hello") || r.UsageMetadata.TotalTokenCount == 0 {
		t.Fatalf("generate: %v %+v", err, r)
	}
	var text strings.Builder
	for chunk, err := range c.Models.GenerateContentStream(ctx, "gemini-1", genai.Text("Hello"), nil) {
		if err != nil {
			t.Fatalf("stream: %v", err)
		}
		text.WriteString(chunk.Text())
	}
	if !strings.Contains(text.String(), "Hello") {
		t.Errorf("stream: %q", text.String())
	}
	if n, err := c.Models.CountTokens(ctx, "gemini-1", genai.Text("Hello"), nil); err != nil || n.TotalTokens == 0 {
		t.Errorf("count tokens: %v", err)
	}
	if e, err := c.Models.EmbedContent(ctx, "gemini-embed-1", genai.Text("Hello"), nil); err != nil || len(e.Embeddings) != 1 {
		t.Errorf("embeddings: %v", err)
	}
	for key, status := range map[string]int{"sk-wrong": 401, s.poor: 403} {
		_, err := client(key).Models.GenerateContent(ctx, "gemini-1", genai.Text("Hello"), nil)
		var e genai.APIError
		if !errors.As(err, &e) || e.Code != status || e.Message == "" {
			t.Errorf("status %d: %v", status, err)
		}
	}
}
