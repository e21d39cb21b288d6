package store

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

func benchUser(b *testing.B, s *Store) (user, token, channel int64) {
	b.Helper()
	ctx := b.Context()
	u := &core.User{Username: "bench", Role: core.RoleUser, Status: core.UserEnabled, Group: "default", Quota: core.MaxQuota}
	t := &core.Token{Name: "bench", Status: core.TokenEnabled, RemainQuota: core.MaxQuota}
	c := &core.Channel{Name: "bench", Status: core.ChannelEnabled}
	if _, err := s.Update(ctx, core.SystemActor("bench"), func(tx *Tx) error {
		if err := tx.CreateUser(ctx, u); err != nil {
			return err
		}
		t.UserID = u.ID
		if err := tx.CreateToken(ctx, t, NewTokenKey()); err != nil {
			return err
		}
		return tx.CreateChannel(ctx, c)
	}); err != nil {
		b.Fatal(err)
	}
	return u.ID, t.ID, c.ID
}

func BenchmarkReserveSettle(b *testing.B) {
	s := openTest(b, Options{})
	user, token, channel := benchUser(b, s)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l := Lease{ID: fmt.Sprintf("lease-%d", i), Node: "n", Boot: "b", RequestID: "r", UserID: user, TokenID: token, Granted: 100, Model: "gpt-4", Detail: `{"a":1}`}
		if _, err := s.Reserve(b.Context(), l, 1, true); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Settle(b.Context(), SettleRequest{LeaseID: l.ID, UserID: user, TokenID: token, ChannelID: channel, ChargeToken: true, Granted: 100, Actual: 60,
			State: LeaseSettled, AccessedAt: time.Now(), CountRequest: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// The CPU time of a row is what the gateway pays; fsync waits aside.
func BenchmarkInsertLogs(b *testing.B) {
	for _, batch := range []int{100, 500, 2000} {
		b.Run(strconv.Itoa(batch), func(b *testing.B) {
			s := openTest(b, Options{})
			rows := make([]core.UsageLog, batch)
			other := `{"model_ratio":1,"group_ratio":1,"completion_ratio":1,"cache_tokens":0,"cache_ratio":1,"model_price":-1,"user_group_ratio":-1,"frt":12,"request_path":"/v1/chat/completions","admin_info":{"use_channel":[1]}}`
			for i := range rows {
				rows[i] = core.UsageLog{Type: core.LogConsume, UserID: 1, Username: "bench", TokenID: 1, TokenName: "bench", ChannelID: 1, Model: "gpt-4", Group: "default",
					Quota: 100, PromptTokens: 100, CompletionTokens: 10, Other: other}
			}
			b.ReportAllocs()
			n, at, began := 0, time.Now(), cpuTime()
			for b.Loop() {
				for i := range rows {
					n++
					rows[i].At, rows[i].RequestID = at.Add(time.Duration(n)*time.Millisecond/4), fmt.Sprintf("%032x", n)
				}
				if err := s.InsertLogs(b.Context(), rows); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/float64(n), "cpu-ns/row")
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkCredential(b *testing.B) {
	s := openTest(b, Options{})
	user, _, _ := benchUser(b, s)
	key := NewTokenKey()
	if _, err := s.Update(b.Context(), core.SystemActor("bench"), func(tx *Tx) error {
		return tx.CreateToken(b.Context(), &core.Token{UserID: user, Status: core.TokenEnabled}, key)
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.CredentialByHash(b.Context(), s.keys.KeyHashes(key.Reveal())); err != nil {
			b.Fatal(err)
		}
	}
}
