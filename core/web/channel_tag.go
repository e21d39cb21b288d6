package web

import (
	"context"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

// tagBody names a tag.
type tagBody struct {
	Tag string `json:"tag" validate:"required,max=191"`
}

// tagged reads the channels of a tag; none is an error.
func (s *Server) tagged(ctx context.Context, tag string) ([]*core.Channel, error) {
	list, err := s.allChannels(ctx, store.ChannelFilter{Tag: tag})
	if err == nil && len(list) == 0 {
		err = core.Errorf(core.CodeNotFound, "no channel has the tag %q", tag)
	}
	return list, err
}

func (s *Server) enableTag(c *call) error  { return s.setTagStatus(c, core.ChannelEnabled) }
func (s *Server) disableTag(c *call) error { return s.setTagStatus(c, core.ChannelDisabled) }

func (s *Server) setTagStatus(c *call, status core.ChannelStatus) error {
	var body tagBody
	if err := c.bind(&body); err != nil {
		return err
	}
	list, err := s.tagged(c.ctx(), body.Tag)
	if err != nil {
		return err
	}
	return s.setAll(c, channelIDs(list), status)
}

// editTag changes all channels of a tag; what is not sent, or empty, stays.
func (s *Server) editTag(c *call) error {
	var body struct {
		tagBody
		NewTag         *string   `json:"new_tag"`
		Priority       *int64    `json:"priority"`
		Weight         *int64    `json:"weight"`
		ModelMapping   *jsonText `json:"model_mapping"`
		Models         *nameList `json:"models"`
		Groups         *nameList `json:"groups"`
		ParamOverride  *jsonText `json:"param_override"`
		HeaderOverride *jsonText `json:"header_override"`
	}
	if err := c.bind(&body); err != nil {
		return err
	}
	list, err := s.tagged(c.ctx(), body.Tag)
	if err != nil {
		return err
	}
	in := channelInput{Tag: body.NewTag, Priority: body.Priority, Weight: body.Weight, Models: body.Models, Group: body.Groups,
		ModelMapping: body.ModelMapping, ParamOverride: body.ParamOverride, HeaderOverride: body.HeaderOverride}
	return s.editAll(c, channelIDs(list), &in)
}

// tagChannels gives channels a tag; an empty one takes it away.
func (s *Server) tagChannels(c *call) error {
	var body struct {
		idList
		Tag *string `json:"tag"`
	}
	if err := c.bind(&body); err != nil {
		return err
	}
	if body.Tag == nil {
		body.Tag = new("")
	}
	return s.editAll(c, body.IDs, &channelInput{Tag: body.Tag})
}

// editAll applies in to channels and answers how many there were.
func (s *Server) editAll(c *call, ids []int64, in *channelInput) error {
	n, err := s.eachChannel(c, ids, func(ctx context.Context, tx *store.Tx, id int64) error {
		ch, err := tx.ChannelForUpdate(ctx, id)
		if err != nil {
			return err
		}
		upstream, kept := s.upstreamOf(ch), ch.Key != ""
		in.apply(ch)
		if err := s.checkChannel(ch); err != nil {
			return err
		}
		if kept {
			if err := s.maySend(c, ch, upstream); err != nil {
				return err
			}
		}
		ch.Key = "" // the sealed one stays
		return tx.SaveChannel(ctx, ch)
	})
	if err != nil {
		return err
	}
	return c.ok(n)
}

// tagModels answers the longest list of models that a channel of the tag has.
func (s *Server) tagModels(c *call) error {
	tag := c.query("tag")
	if tag == "" {
		return invalidField("tag", "is required")
	}
	list, err := s.tagged(c.ctx(), tag)
	if err != nil {
		return err
	}
	var longest []string
	for _, ch := range list {
		if len(ch.Models) > len(longest) {
			longest = ch.Models
		}
	}
	return c.ok(strings.Join(longest, ","))
}
