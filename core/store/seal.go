package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/core"
)

// Keyring holds the keys made from CRYPTO_SECRET and CRYPTO_SECRET_OLD: new
// values are sealed and hashed under the first, older ones are still opened.
// It is immutable.
type Keyring struct {
	keys []*masterKey // the current one first
}

// masterKey is what one secret yields. Its id tells under which secret a value
// was sealed and says nothing about it.
type masterKey struct {
	id     [keyIDLen]byte
	wrap   cipher.AEAD // wraps data keys
	token  []byte      // HMAC of API keys
	access []byte      // HMAC of users' access tokens
}

const (
	keyIDLen  = 8
	nonceLen  = 12
	tagLen    = 16
	dataKey   = 32
	sealV1    = 1
	sealHead  = 1 + keyIDLen
	sealMin   = sealHead + nonceLen + dataKey + tagLen + nonceLen + tagLen
	hashLen   = sha256.Size
	minSecret = 16
)

// NewKeyring derives the keys of a secret and of the former ones.
func NewKeyring(secret core.Secret, old []core.Secret) (*Keyring, error) {
	k := &Keyring{}
	for i, s := range append([]core.Secret{secret}, old...) {
		if len(s) < minSecret {
			return nil, fmt.Errorf("secret %d of the keyring is shorter than %d characters", i, minSecret)
		}
		m, err := newMasterKey(s)
		if err != nil {
			return nil, fmt.Errorf("derive keys: %w", err)
		}
		if k.byID(m.id[:]) == nil {
			k.keys = append(k.keys, m)
		}
	}
	return k, nil
}

func newMasterKey(secret core.Secret) (*masterKey, error) {
	m := &masterKey{}
	id, err := hkdf.Key(sha256.New, []byte(secret.Reveal()), []byte("sluice key id"), "", keyIDLen)
	if err != nil {
		return nil, err
	}
	copy(m.id[:], id)
	derive := func(salt string) []byte {
		b, e := hkdf.Key(sha256.New, []byte(secret.Reveal()), []byte(salt), m.ID(), 32)
		err = errors.Join(err, e)
		return b
	}
	kek := derive("sluice seal")
	m.token, m.access = derive("sluice api key"), derive("sluice access token")
	if err != nil {
		return nil, err
	}
	m.wrap, err = newGCM(kek)
	return m, err
}

func newGCM(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// ID is the key's name as text.
func (m *masterKey) ID() string { return hex.EncodeToString(m.id[:]) }

func (k *Keyring) byID(id []byte) *masterKey {
	for _, m := range k.keys {
		if string(m.id[:]) == string(id) {
			return m
		}
	}
	return nil
}

// KeyHashes returns the HMAC-SHA256 of an API key, with or without "sk-", under
// the current secret and then the old ones, which is the order to look it up in.
func (k *Keyring) KeyHashes(key string) [][]byte {
	key = strings.TrimPrefix(key, "sk-")
	out := make([][]byte, len(k.keys))
	for i, m := range k.keys {
		out[i] = mac(m.token, key)
	}
	return out
}

// AccessTokenHash is what is stored of a user's access token.
func (k *Keyring) AccessTokenHash(token core.Secret) []byte {
	return mac(k.keys[0].access, token.Reveal())
}

func (k *Keyring) accessHashes(token core.Secret) [][]byte {
	out := make([][]byte, len(k.keys))
	for i, m := range k.keys {
		out[i] = mac(m.access, token.Reveal())
	}
	return out
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// ErrUnknownKey means that a value was sealed under a secret that is neither
// CRYPTO_SECRET nor among CRYPTO_SECRET_OLD.
var ErrUnknownKey = errors.New("sealed with a secret that is not configured: CRYPTO_SECRET was changed without putting the former value into CRYPTO_SECRET_OLD")

// ErrSealed means that a sealed value was changed, cut or moved to another row.
var ErrSealed = errors.New("sealed value is damaged or belongs to another row")

// aad binds a sealed value to its place.
func aad(head []byte, table, column, id string) []byte {
	out := make([]byte, 0, len(head)+len(table)+len(column)+len(id)+2)
	out = append(append(out, head...), table...)
	out = append(append(out, '|'), column...)
	return append(append(out, '|'), id...)
}

// seal encrypts text for one place with a data key of its own, which is wrapped
// by the current master key. The empty text is nil.
//
//	version 1 | key id 8 | nonce 12 | wrapped data key 48 | nonce 12 | text and tag
func (k *Keyring) seal(text, table, column, id string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	m := k.keys[0]
	var fresh [dataKey + 2*nonceLen]byte
	if _, err := rand.Read(fresh[:]); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	key, n1, n2 := fresh[:dataKey], fresh[dataKey:dataKey+nonceLen], fresh[dataKey+nonceLen:]
	gcm, err := newGCM(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	out := make([]byte, 0, sealMin+len(text))
	out = append(append(out, sealV1), m.id[:]...)
	bound := aad(out, table, column, id)
	out = append(out, n1...)
	out = m.wrap.Seal(out, n1, key, bound)
	out = append(out, n2...)
	return gcm.Seal(out, n2, []byte(text), bound), nil
}

// open is the inverse of seal.
func (k *Keyring) open(sealed []byte, table, column, id string) (string, error) {
	if len(sealed) == 0 {
		return "", nil
	}
	if len(sealed) < sealMin || sealed[0] != sealV1 {
		return "", ErrSealed
	}
	m := k.byID(sealed[1:sealHead])
	if m == nil {
		return "", fmt.Errorf("key id %s: %w", hex.EncodeToString(sealed[1:sealHead]), ErrUnknownKey)
	}
	bound := aad(sealed[:sealHead], table, column, id)
	rest := sealed[sealHead:]
	key, err := m.wrap.Open(nil, rest[:nonceLen], rest[nonceLen:nonceLen+dataKey+tagLen], bound)
	if err != nil {
		return "", ErrSealed
	}
	rest = rest[nonceLen+dataKey+tagLen:]
	gcm, err := newGCM(key)
	if err != nil {
		return "", ErrSealed
	}
	text, err := gcm.Open(nil, rest[:nonceLen], rest[nonceLen:], bound)
	if err != nil {
		return "", ErrSealed
	}
	return string(text), nil
}

// resealed keeps the stored form of a text that did not change, so that only
// real changes are written, unless it is under an old secret.
func (k *Keyring) resealed(old []byte, oldText, text, table, column string, id int64) ([]byte, error) {
	if oldText == text && (len(old) == 0) == (text == "") && (len(old) == 0 || string(old[1:sealHead]) == string(k.keys[0].id[:])) {
		return old, nil
	}
	return k.seal(text, table, column, strconv.FormatInt(id, 10))
}

const alphanumerics = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// NewTokenKey makes an API key of 48 random letters and digits, without "sk-".
func NewTokenKey() core.Secret { return core.Secret(randomText(core.TokenKeyLength)) }

// randomText draws n letters and digits without bias. crypto/rand.Read does not fail.
func randomText(n int) string {
	const limit = 256 - 256%len(alphanumerics)
	out := make([]byte, 0, n)
	var buf [64]byte
	for {
		_, _ = rand.Read(buf[:])
		for _, b := range buf {
			if int(b) < limit {
				if out = append(out, alphanumerics[int(b)%len(alphanumerics)]); len(out) == n {
					return string(out)
				}
			}
		}
	}
}
