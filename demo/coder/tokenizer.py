"""The tokenizer and the chat template, in DeepSeek-Coder's format."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BAR, GAP = "\uff5c", "\u2581"  # DeepSeek's tokens use the fullwidth bar and the lower one eighth block
BOS = f"<{BAR}begin{GAP}of{GAP}sentence{BAR}>"
END_OF_TEXT = f"<{BAR}end{GAP}of{GAP}sentence{BAR}>"
FIM_HOLE = f"<{BAR}fim{GAP}hole{BAR}>"
FIM_BEGIN = f"<{BAR}fim{GAP}begin{BAR}>"
FIM_END = f"<{BAR}fim{GAP}end{BAR}>"
EOT = "<|EOT|>"
# In DeepSeek-Coder's order, behind the ordinary tokens.
SPECIAL_TOKENS = (BOS, END_OF_TEXT, FIM_HOLE, FIM_BEGIN, FIM_END, "<pad>", "<|User|>", "<|Assistant|>", EOT)

DEFAULT_SYSTEM = "You are the small demo model of DeepSeek on Triton, and you write short Python functions."
# The layout of DeepSeek-Coder-Instruct, whose template sets no line break between a given system text and what follows.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if not messages | selectattr('role', 'equalto', 'system') | list %}{{ '" + DEFAULT_SYSTEM + "\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n' }}"
    "{% else %}{{ '### Response:\\n' + message['content'] + '\\n" + EOT + "\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over `texts`, cut into words as DeepSeek-Coder does it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[\r\n]"), "isolated"),
            pre_tokenizers.Split(Regex(r"\s?\p{L}+"), "isolated"),
            pre_tokenizers.Split(Regex(r"\s?\p{P}+"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOT,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
