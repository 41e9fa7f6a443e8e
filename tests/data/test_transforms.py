import torch

from jiadf.data.transforms import augment_with_seed, augmentation

IMAGE = torch.arange(3 * 40 * 40, dtype=torch.int64).reshape(3, 40, 40).to(torch.uint8)


def test_a_seed_fixes_the_picture_and_leaves_the_random_state_alone():
    transform = augmentation(32)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = augment_with_seed(IMAGE, transform, 1)
    torch.testing.assert_close(torch.rand(3), expected)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(first, augment_with_seed(IMAGE, transform, 1))
    assert not torch.equal(first, augment_with_seed(IMAGE, transform, 2))


def test_all_quarter_turns_occur():
    turn = augmentation(32).transforms[2]
    torch.manual_seed(0)
    seen = {tuple(turn(IMAGE).flatten()[:50].tolist()) for _ in range(60)}
    assert seen == {tuple(IMAGE.rot90(k, (-2, -1)).flatten()[:50].tolist()) for k in range(4)}
