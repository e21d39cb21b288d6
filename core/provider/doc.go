// Package provider turns a channel into an HTTP exchange with its upstream. It
// owns the catalogue (which vendor offers which operation at which path, with
// which way to authenticate: data, not code), the making of the upstream
// request (URL, key, headers), and the guarded transport, which judges the
// address that is really dialled.
//
// It must not know what the bodies mean, who asks, what it costs, or when to
// try again: it sends the bytes that it is given, once.
package provider
